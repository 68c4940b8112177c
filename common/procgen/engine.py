"""The Procgen engine behind one class, with every option checked before the engine sees it.

The engine is C++: an option it does not accept, or a saved state that is not its own, ends the
whole process with no Python exception. Everything is therefore checked here first.

Cobbe et al., Leveraging Procedural Generation to Benchmark Reinforcement Learning, 2020,
https://arxiv.org/abs/1912.01588
"""

import contextlib
import io
import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, choice
from common.procgen.levels import LevelSet, whole_number
from common.procgen.state import open_state, seal_state

GAMES = (
    "bigfish",
    "bossfight",
    "caveflyer",
    "chaser",
    "climber",
    "coinrun",
    "dodgeball",
    "fruitbot",
    "heist",
    "jumper",
    "leaper",
    "maze",
    "miner",
    "ninja",
    "plunder",
    "starpilot",
)
LOOKS = ("themed", "plain", "generated")
DIFFICULTIES = ("easy", "hard")
ACTION_NAMES = (
    *("left down", "left", "left up", "down", "nothing", "up", "right down", "right", "right up"),
    *("D", "A", "W", "S", "Q", "E"),
)
"""What the actions of every game are, by the keys that they press; what a key does, the game decides."""
ACTION_COUNT = len(ACTION_NAMES)
FRAME_SHAPE = (64, 64, 3)

_LOOK_OPTIONS: dict[str, dict[str, bool]] = {
    "themed": {},
    "plain": {"restrict_themes": True, "use_backgrounds": False},
    "generated": {"use_generated_assets": True},
}
NEW_EPISODE = -1


def import_engine() -> Any:
    """Import the engine's package, without the notice that its dependency ``gym`` writes to stderr."""
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import procgen

    return procgen


def default_threads(num: int) -> int:
    """Threads that step ``num`` games fastest: 0 steps them in the calling thread."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(num, cores, 8)
    return threads if threads > 1 else 0


class ProcgenEngine:
    """``num`` copies of one game, stepped together.

    A loop is ``observe()``, ``act(actions)``, ``observe()``, ... Episodes follow each other without a
    pause: when one ends, the frame is already the next episode's first and its ``first`` is true. The
    engine gives neither the last frame of an episode nor whether it ended by its time limit.

    Args:
        game: One of :data:`GAMES`.
        num: How many copies, 1 to 4096.
        levels: Where episodes are drawn from.
        look: ``themed`` (the published look), ``plain`` (one theme, black background) or ``generated``
            (random textures and shapes). ``themed`` and ``plain`` show the same levels under the same
            level numbers, except in bigfish, bossfight and fruitbot, where a theme's shapes matter to the
            physics; ``generated`` draws other layouts from the same level numbers, as its textures
            consume the level's random numbers (CoinRun's stay the same).
        difficulty: ``easy`` or ``hard``.
        seed: Which levels are drawn in which order, 0 to 2³¹ - 1.
        threads: Engine threads; 0 steps in the calling thread. Default: see :func:`default_threads`.
            Results do not depend on it.
        render: Also draw 512x512 frames, found in :meth:`info`. Slow.
        monochrome: Draw every object as a box in a flat color of its type, nothing as black.
        backgrounds: Draw the look's background; without it, what is not an object is black.

    Raises:
        InputError: if an option cannot be used, before the engine is touched.
    """

    def __init__(
        self,
        game: str,
        num: int = 64,
        levels: LevelSet | None = None,
        look: str = "themed",
        difficulty: str = "easy",
        seed: int = 0,
        threads: int | None = None,
        render: bool = False,
        monochrome: bool = False,
        backgrounds: bool = True,
    ) -> None:
        self.game = choice(game, GAMES, "game")
        self.num = whole_number(num, "num", 1, 4096)
        self.levels = levels if levels is not None else LevelSet.seen()
        if not isinstance(self.levels, LevelSet):
            raise InputError(f"levels={levels!r} cannot be used; give LevelSet.seen(start, count) or LevelSet.unseen()")
        self.look = choice(look, LOOKS, "look")
        self.difficulty = choice(difficulty, DIFFICULTIES, "difficulty")
        self.seed = whole_number(seed, "seed", 0, 2**31 - 1)
        self.threads = default_threads(self.num) if threads is None else whole_number(threads, "threads", 0, 256)
        self.render, self.monochrome, self.backgrounds = bool(render), bool(monochrome), bool(backgrounds)
        self._observed = False
        self._engine = self._make()

    def _make(self) -> Any:
        options = dict(_LOOK_OPTIONS[self.look])
        if not self.backgrounds:
            options["use_backgrounds"] = False
        if self.monochrome:
            options |= {"use_monochrome_assets": True, "use_backgrounds": False, "restrict_themes": True}
        engine = import_engine().ProcgenGym3Env(
            num=self.num,
            env_name=self.game,
            num_levels=self.levels.count,
            start_level=self.levels.start,
            distribution_mode=self.difficulty,
            rand_seed=self.seed,
            num_threads=self.threads,
            render_mode="rgb_array" if self.render else None,
            **options,
        )
        # gym3 copies every array it returns unless told otherwise; who needs a copy makes it.
        engine._reuse_arrays = True
        # Looked up now, for ever: the first look-up takes a lock, and the garbage collector may close an
        # engine in the middle of another one's first look-up, in the same thread, and wait for ever.
        _ = engine._c_lib.libenv_close
        return engine

    def observe(self) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.bool_]]:
        """Wait for the last :meth:`act` and return ``(reward, frames, first)``.

        Returns:
            Reward of that step ``float32 [N]``, frames ``uint8 [N, 64, 64, 3]`` and whether a frame is the
            first of an episode ``bool [N]``. All are **views of the engine's buffers**: :meth:`act` starts
            to overwrite them at once, so copy what must outlive it.
        """
        reward, observation, first = self._engine.observe()
        self._observed = True
        return reward, observation["rgb"], first

    def act(self, actions: NDArray[Any]) -> None:
        """Start a step in every copy; with threads, it goes on while Python does.

        Args:
            actions: Whole numbers ``[N]`` from 0 to 14, or -1 to end the episode and begin another.

        Raises:
            InputError: if shape, type or a value is wrong.
        """
        actions = np.asarray(actions)
        if actions.shape != (self.num,) or actions.dtype.kind not in "iu":
            raise InputError(
                f"actions of shape {actions.shape} and type {actions.dtype} cannot be used; "
                f"give {self.num} whole numbers from 0 to {ACTION_COUNT - 1}"
            )
        # The engine takes any number and silently plays another action for it.
        if actions.min() < NEW_EPISODE or actions.max() >= ACTION_COUNT:
            raise InputError(f"actions from {actions.min()} to {actions.max()} given; use 0 to {ACTION_COUNT - 1}")
        self._observed = False
        self._engine.act(actions)

    def new_episodes(self) -> None:
        """End every episode here and begin new ones, on the next levels drawn.

        The engine's own ``reset`` does nothing in mid-episode.
        """
        self.act(np.full(self.num, NEW_EPISODE, dtype=np.int32))

    def info(self) -> dict[str, NDArray[Any]]:
        """What the engine tells about the present frames, as views of its buffers.

        Returns:
            ``level_seed`` ``int32 [N]``, the level being played; ``prev_level_seed`` ``int32 [N]`` and
            ``prev_level_complete`` ``uint8 [N]``, the level of the step before and whether that step
            completed it; with ``render``, ``rgb`` ``uint8 [N, 512, 512, 3]``.
        """
        if not self._observed:
            self.observe()
        information: dict[str, NDArray[Any]] = self._engine._info
        return information

    def _tag(self) -> bytes:
        parts = (self.game, self.look, self.difficulty, self.levels, self.monochrome, self.backgrounds)
        return repr(parts).encode()

    @property
    def savable(self) -> bool:
        """Whether the state can be saved: not that of the look ``generated``, which the engine itself cannot save."""
        return self.look != "generated"

    def _check_savable(self) -> None:
        if not self.savable:
            # The engine asserts this, that is: it ends the process.
            raise InputError("look='generated' cannot save or restore its state; use one of: themed, plain")

    def get_state(self) -> list[bytes]:
        """Save the ``N`` games exactly, about 40 kB each.

        Raises:
            InputError: for the look ``generated``, whose state the engine cannot save.
        """
        self._check_savable()
        return [seal_state(payload, self._tag()) for payload in self._engine.get_state()]

    def set_state(self, states: Sequence[bytes]) -> None:
        """Restore what :meth:`get_state` gave, bit for bit; the next :meth:`observe` shows it.

        The engine may have been made with another seed, but must have the same game, look, difficulty,
        levels and number of copies.

        Raises:
            InputError: if ``states`` does not fit this engine or is damaged; nothing changes then.
        """
        self._check_savable()
        if isinstance(states, bytes | str) or len(states) != self.num:
            raise InputError(f"{len(states)} states given; this engine needs a list of {self.num}")
        payloads = [open_state(state, self._tag()) for state in states]
        self._engine.set_state(payloads)
        self._observed = False

    def close(self) -> None:
        """Free the games and their threads; may be called twice."""
        self._engine.close()
