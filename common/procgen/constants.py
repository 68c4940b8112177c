"""What a return is worth, between a trivial policy and a perfect one, game by game.

The range of returns of each game and difficulty, from the code of Cobbe et al., Leveraging Procedural
Generation to Benchmark Reinforcement Learning, 2020, https://arxiv.org/abs/1912.01588
"""

from typing import Any

from common.errors import choice
from common.procgen.engine import DIFFICULTIES, GAMES

# (lowest, highest) return, easy then hard, from the authors' code.
CONSTANTS: dict[str, dict[str, tuple[float, float]]] = {
    "bigfish": {"easy": (1.0, 40.0), "hard": (0.0, 40.0)},
    "bossfight": {"easy": (0.5, 13.0), "hard": (0.5, 13.0)},
    "caveflyer": {"easy": (3.5, 12.0), "hard": (2.0, 13.4)},
    "chaser": {"easy": (0.5, 13.0), "hard": (0.5, 14.2)},
    "climber": {"easy": (2.0, 12.6), "hard": (1.0, 12.6)},
    "coinrun": {"easy": (5.0, 10.0), "hard": (5.0, 10.0)},
    "dodgeball": {"easy": (1.5, 19.0), "hard": (1.5, 19.0)},
    "fruitbot": {"easy": (-1.5, 32.4), "hard": (-0.5, 27.2)},
    "heist": {"easy": (3.5, 10.0), "hard": (2.0, 10.0)},
    "jumper": {"easy": (1.0, 10.0), "hard": (1.0, 10.0)},
    "leaper": {"easy": (1.5, 10.0), "hard": (1.5, 10.0)},
    "maze": {"easy": (5.0, 10.0), "hard": (4.0, 10.0)},
    "miner": {"easy": (1.5, 13.0), "hard": (1.5, 20.0)},
    "ninja": {"easy": (3.5, 10.0), "hard": (2.0, 10.0)},
    "plunder": {"easy": (4.5, 30.0), "hard": (3.0, 30.0)},
    "starpilot": {"easy": (2.5, 64.0), "hard": (1.5, 35.0)},
}
# Some papers print 3 as the lowest return of easy Jumper and Leaper.
PAPER_CONSTANTS: dict[tuple[str, str], tuple[float, float]] = {
    ("jumper", "easy"): (3.0, 10.0),
    ("leaper", "easy"): (3.0, 10.0),
}
SOURCES = ("code", "paper")


def return_range(game: str, difficulty: str, constants: str = "code") -> tuple[float, float]:
    """The ``(lowest, highest)`` return that normalization maps to 0 and 1.

    Args:
        game: One of the sixteen games.
        difficulty: ``easy`` or ``hard``.
        constants: ``code`` for the authors' code, ``paper`` for the variant printed in some papers; they
            differ for easy Jumper and Leaper only.

    Raises:
        InputError: if one of them is not known.
    """
    choice(game, GAMES, "game")
    choice(difficulty, DIFFICULTIES, "difficulty")
    if choice(constants, SOURCES, "constants") == "paper":
        return PAPER_CONSTANTS.get((game, difficulty), CONSTANTS[game][difficulty])
    return CONSTANTS[game][difficulty]


def normalized_return(game: str, difficulty: str, value: Any, constants: str = "code") -> Any:
    """``(value - lowest) / (highest - lowest)``: 0 for a trivial policy, 1 for a perfect one, not clipped.

    Args:
        game: One of the sixteen games.
        difficulty: ``easy`` or ``hard``.
        value: A return, or an array of returns of any shape.
        constants: See :func:`return_range`.

    Returns:
        A number or an array, as ``value``.

    Raises:
        InputError: if game, difficulty or constants is not known.

    >>> normalized_return("coinrun", "easy", 7.5)
    0.5
    """
    low, high = return_range(game, difficulty, constants)
    return (value - low) / (high - low)
