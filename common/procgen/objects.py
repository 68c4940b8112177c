"""What the engine draws in each game: object types by class name, and the flat color each is drawn in.

With monochrome assets the engine fills every object's box with a color computed from its type number
(and its theme, for the few types whose theme matters to the game). The numbers are the engine's own:
https://github.com/openai/procgen/tree/master/procgen/src/games, ``color_for_type`` in
``basic-abstract-game.cpp``. Types that mean the same to a player form one class.

Bigfish, bossfight and fruitbot are left out, as a theme there changes sizes and with them the course
of the game; plunder too, where two ships have the colors of a target and of an explosion.
"""

from collections.abc import Iterator

from common.errors import choice

Color = tuple[int, int, int]

BACKGROUND = 0
IGNORED = 255
_BLACK: Color = (0, 0, 0)
_EXPLOSIONS = (54, 55, 56, 57, 58)
_TRAIL = 59

# Class name -> type numbers; the order is that of the class numbers, after "background".
OBJECTS: dict[str, dict[str, tuple[int, ...]]] = {
    "caveflyer": {
        "agent": (0,),
        "wall": (8,),
        "goal": (1,),
        "meteor": (2,),
        "target": (3,),
        "bullet": (4,),
        "enemy": (5,),
        "effect": (9, *_EXPLOSIONS),
    },
    "chaser": {
        "agent": (0,),
        "wall": (5,),
        "orb": (),
        "crystal": (2,),
        "egg": (4,),
        "enemy": (6, 7, 8),
        "weak_enemy": (3,),
    },
    "climber": {"agent": (0, 9, 12, 13), "wall": (15, 16), "coin": (1,), "enemy": (6, 7)},
    "coinrun": {
        "agent": (0, 9, 12, 13),
        "wall": (15, 16),
        "coin": (1,),
        "saw": (2, 3),
        "enemy": (6, 7),
        "crate": (20,),
        "lava": (17, 18),
        "effect": (_TRAIL,),
    },
    "dodgeball": {
        "agent": (0,),
        "wall": (1,),
        "ball": (3,),
        "enemy": (4,),
        "enemy_ball": (6,),
        "door": (5, 7),
        "effect": (8,),
    },
    "heist": {"agent": (0,), "wall": (51,), "gem": (9,), "key": (2,), "door": (1,)},
    "jumper": {
        "agent": (0, 9, 10, 11, 12, 13),
        "wall": (6, 7),
        "carrot": (1,),
        "spike": (2,),
        "compass": (),
        "effect": (_TRAIL,),
    },
    "leaper": {"agent": (0,), "road": (2,), "water": (3,), "log": (1,), "car": (4,), "finish": (5,)},
    "maze": {"agent": (0,), "wall": (51,), "cheese": (2,)},
    "miner": {"agent": (0,), "dirt": (9,), "boulder": (1, 3), "diamond": (2, 4), "exit": (6,)},
    "ninja": {
        "agent": (0, 9, 12, 13),
        "wall": (20,),
        "mushroom": (1,),
        "bomb": (6, 14),
        "star": (7,),
        "meter": (),
        "effect": _EXPLOSIONS,
    },
    "starpilot": {
        "agent": (0,),
        "bullet": (1,),
        "enemy_bullet": (2, 3),
        "flyer": (4, 8),
        "meteor": (5,),
        "cloud": (6,),
        "turret": (7,),
        "effect": _EXPLOSIONS,
    },
}
LABELLED_GAMES = tuple(OBJECTS)

# How many themes tell types apart even in the monochrome render.
_THEMES = {("heist", 1): 3, ("heist", 2): 3, ("leaper", 0): 5}
# Drawn in colors of their own.
_FIXED: dict[str, dict[str, tuple[Color, ...]]] = {
    "chaser": {"orb": ((0, 255, 0),)},
    "jumper": {"compass": ((168, 166, 158), (252, 186, 3))},
    "ninja": {"meter": ((66, 245, 135),)},
}
# Objects with black in their own picture: their whole box counts, not only where it is not black.
SOLID: dict[str, tuple[str, ...]] = {"leaper": ("finish",)}

# Opaque ground that objects move on.
GROUND: dict[str, tuple[str, ...]] = {"leaper": ("road", "water")}
# Drawn upright in the grid's cells, never rotated.
FLAT = ("wall", "dirt", "road", "water", "orb")


def class_names(game: str) -> tuple[str, ...]:
    """Names of the classes, in the order of their numbers.

    Raises:
        InputError: if the game has no exact labels, naming those that have.

    >>> class_names("maze")
    ('background', 'agent', 'wall', 'cheese')
    """
    choice(game, LABELLED_GAMES, "game")
    return ("background", *OBJECTS[game])


def color_of(kind: int, theme: int = 0) -> Color:
    """The flat color of a type number.

    >>> color_of(0)
    (127, 255, 127)
    """
    code = (29 * (kind + 1) + 19 * theme) % 64
    return (64 * (code // 16) + 63, 64 * (code // 4 % 4) + 63, 64 * (code % 4) + 63)


def _under_jump_puff(color: Color) -> Color:
    """The color under the half transparent white ellipse of a jump, as Qt blends it."""
    red, green, blue = ((value * 135 + 255 * 120 + 127) // 255 for value in color)
    return red, green, blue


def _colors(game: str) -> Iterator[tuple[Color, int]]:
    yield _BLACK, BACKGROUND
    for number, (name, kinds) in enumerate(OBJECTS[game].items(), start=1):
        for kind in kinds:
            for theme in range(_THEMES.get((game, kind), 1)):
                yield color_of(kind, theme), number
        for color in _FIXED.get(game, {}).get(name, ()):
            yield color, number


def color_table(game: str) -> dict[Color, int]:
    """Color in the monochrome render -> class number.

    Raises:
        InputError: if the game has no exact labels.
    """
    names = class_names(game)
    table = dict(_colors(game))
    if game == "jumper":
        effect = names.index("effect")
        for color in list(table):
            table.setdefault(_under_jump_puff(color), effect)
    return table
