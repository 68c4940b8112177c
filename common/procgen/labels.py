"""Free segmentation labels: frames of a game, and what every pixel of them shows.

Three engines with the same seed play the same actions. One draws the frame, one every object as a box
in a flat color of its type, one the frame's own objects on black. A pixel is of an object's class where
the box says so and the object itself is not black there.

Exact with these limits, all at the rims of objects: where an object's box covers another object, its
corners take its label (on leaper's roads and water they do not); a black pixel inside an object is
background; a rotated object's corners outside its box take the label of the nearest object.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from common.procgen.engine import ACTION_COUNT, NEW_EPISODE, ProcgenEngine
from common.procgen.levels import LevelSet, whole_number
from common.procgen.objects import BACKGROUND, FLAT, GROUND, IGNORED, LABELLED_GAMES, SOLID, class_names, color_table

__all__ = ["IGNORED", "LABELLED_GAMES", "LabelledBatch", "LabelledFrames", "class_names"]

# Times that play moves on before the first batch, so that it shows different moments of episodes.
_BURN_IN = 4
# Pictures reach at most this far out of their boxes, in pixels: rotated ones, and CoinRun's generated agent.
_REACH = 5
_NEIGHBORS = ((-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))


class LabelledBatch(NamedTuple):
    """Labelled frames.

    Attributes:
        frames: ``uint8 [N, 64, 64, 3]``.
        masks: Class numbers ``uint8 [N, 64, 64]``, see :func:`class_names`; 255 where ignored.
        levels: The level each frame shows, ``int64 [N]``: frames of one level belong together.
    """

    frames: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    levels: NDArray[np.int64]


class LabelledFrames:
    """Frames of a game with exact class masks, from random play.

    The same arguments give the same frames and masks. ``themed`` and ``plain`` give the same levels and
    moments, with masks that differ only where a theme's object has another outline; ``generated`` draws
    other layouts for the same level numbers (see ``ProcgenEngine``) and its objects have other outlines.

    Args:
        game: One of :data:`LABELLED_GAMES`.
        num: Copies of the game played side by side, 1 to 4096.
        levels: Where episodes are drawn from. Default: ``LevelSet.seen()``, the first 200.
        look: ``themed``, ``plain`` or ``generated``.
        difficulty: ``easy`` or ``hard``.
        seed: Seed of levels and actions, 0 to 2³¹ - 1.
        stride: Random steps between two batches, at least 1; the higher, the less alike are frames that
            follow each other.
        renew: Chance, from 0 to 1, that a copy leaves its episode for a new one after a batch. Without
            it, most frames would come from the few levels where random play survives long.
        threads: Engine threads of each of the three engines. Default: as ``ProcgenEngine``.

    Raises:
        InputError: if an option cannot be used, or the game has no exact labels.
    """

    def __init__(
        self,
        game: str,
        num: int = 16,
        levels: LevelSet | None = None,
        look: str = "themed",
        difficulty: str = "easy",
        seed: int = 0,
        stride: int = 8,
        renew: float = 0.25,
        threads: int | None = None,
    ) -> None:
        self.class_names = class_names(game)
        self.game = game
        self.stride = whole_number(stride, "stride", 1, 10_000)
        if not 0 <= renew <= 1:
            raise InputError(f"renew={renew!r} cannot be used; give a chance from 0 to 1")
        self.renew = renew
        self._picture, self._boxes, self._objects = self._engines = tuple(
            ProcgenEngine(game, num, levels, look, difficulty, seed, threads, monochrome=boxes, backgrounds=backgrounds)
            for boxes, backgrounds in ((False, True), (True, False), (False, False))
        )
        self.num = self._picture.num
        colors, numbers = zip(
            *sorted((_code(np.array(color)), number) for color, number in color_table(game).items()), strict=True
        )
        self._colors, self._numbers = np.array(colors), np.array(numbers, dtype=np.uint8)
        solid = SOLID.get(game, ()) if look != "generated" else ()
        self._solid = [self.class_names.index(name) for name in solid]
        self._ground = [self.class_names.index(name) for name in GROUND.get(game, ())]
        self._flat = [self.class_names.index(name) for name in FLAT if name in self.class_names]
        self._random = np.random.default_rng(seed)
        for _ in range(_BURN_IN):
            self._advance()

    def batch(self) -> LabelledBatch:
        """Return the present frames with masks, then play on."""
        frames = self._picture.observe()[1].copy()
        masks = self._masks(self._boxes.observe()[1], self._objects.observe()[1])
        levels = self._picture.info()["level_seed"].astype(np.int64)
        self._advance()
        return LabelledBatch(frames, masks, levels)

    def close(self) -> None:
        """Free the engines; may be called twice."""
        for engine in self._engines:
            engine.close()

    def _advance(self) -> None:
        actions = self._random.integers(0, ACTION_COUNT, (self.stride, self.num))
        actions[0, self._random.random(self.num) < self.renew] = NEW_EPISODE
        for action in actions:
            for engine in self._engines:
                engine.act(action)
            (reward, _, first), *others = (engine.observe() for engine in self._engines)
            if any((other[0] != reward).any() or (other[2] != first).any() for other in others):
                raise RuntimeError(f"the three engines of {self.game} drifted apart: the masks would be wrong")

    def _masks(self, boxes: NDArray[np.uint8], objects: NDArray[np.uint8]) -> NDArray[np.uint8]:
        codes = _code(boxes)
        place = np.minimum(np.searchsorted(self._colors, codes), len(self._colors) - 1)
        masks = np.where(self._colors[place] == codes, self._numbers[place], np.uint8(IGNORED)).astype(np.uint8)
        drawn = objects.any(axis=-1)
        outside = drawn & (masks == BACKGROUND)
        masks[~drawn & ~np.isin(masks, [*self._solid, IGNORED])] = BACKGROUND
        if self._ground:
            self._uncover_ground(masks, _code(objects))
        if outside.any():
            self._fill_outside(masks, outside)
        return masks

    def _uncover_ground(self, masks: NDArray[np.uint8], codes: NDArray[np.int64]) -> None:
        """Give the corners of boxes on opaque ground back to it: what has exactly a color of the ground."""
        on_top = ~np.isin(masks, [BACKGROUND, IGNORED, *self._solid, *self._ground])
        for mask, code, top in zip(masks, codes, on_top, strict=True):
            for ground in self._ground:
                mask[top & np.isin(code, np.unique(code[mask == ground]))] = ground

    def _fill_outside(self, masks: NDArray[np.uint8], outside: NDArray[np.bool_]) -> None:
        """Give what is drawn outside all boxes (rotated objects) to the nearest object, else ignore it."""
        masks[outside] = IGNORED
        padded = np.full((len(masks), 66, 66), BACKGROUND, dtype=np.uint8)
        for _ in range(_REACH):
            source = np.where(np.isin(masks, [IGNORED, *self._flat]), BACKGROUND, masks)
            padded[:, 1:-1, 1:-1] = source
            for down, right in _NEIGHBORS:
                near = padded[:, 1 + down : 65 + down, 1 + right : 65 + right]
                fill = outside & (masks == IGNORED) & (near != BACKGROUND)
                masks[fill] = near[fill]


def _code(colors: NDArray[Any]) -> NDArray[np.int64]:
    """Colors ``[..., 3]`` as one number each ``[...]``."""
    codes: NDArray[np.int64] = colors @ np.array([1 << 16, 1 << 8, 1])
    return codes
