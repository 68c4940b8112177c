"""What a policy's teachers have played: levels that they do not label, and what was to be unseen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback

from common.configuration import read_settings
from common.errors import InputError
from common.procgen import LevelSet
from common.runs.folder import Run
from common.teacher import Teacher
from kdrl.env import ProcgenVecEnv
from kdrl.game import Game, Part
from kdrl.procgen_game import VALIDATION_LEVELS, ProcgenSettings
from kdrl.settings import TrainSettings


def levels_seen(runs: Sequence[Run], env: Game) -> list[LevelSet | None]:
    """The levels that each teacher was trained on, in the student's look and difficulty; ``None`` for none of these.

    Raises:
        InputError: a level of the student's that all teachers have seen, naming levels to train one on.
    """
    if not isinstance(env, ProcgenSettings):
        raise InputError(f"teacher_domains=unseen is about Procgen's levels, and {env.game} has none; use all")
    found: list[LevelSet | None] = []
    for run in runs:
        own = read_settings(run.config_path, TrainSettings, task="rl").env
        assert isinstance(own, ProcgenSettings)  # of the same game
        same = (own.look, own.difficulty) == (env.look, env.difficulty)
        found.append(own.seen() if same else None)
    first, last = env.start_level, env.start_level + env.num_levels - 1
    # Between two of these, the same teachers have seen every level.
    borders = {first} | {level for one in found if one is not None for level in (one.start, one.start + one.count)}
    for level in sorted(borders):
        if first <= level <= last and all(one is not None and level in one for one in found):
            raise InputError(
                f"teacher_domains=unseen: every teacher has seen level {level}; train one on other levels, such as"
                f" env.start_level={last + 1 + VALIDATION_LEVELS}"
            )
    return found


def seen_by_teachers(runs: Sequence[Run], env: Game, parts: Sequence[Part]) -> list[str]:
    """What teachers were trained on that their student is judged on as unseen, a line each."""
    found = []
    for run in runs:
        own = read_settings(run.config_path, TrainSettings, task="rl").env
        told = [own.saw(part, env) for part in parts if not part.seen]
        found += [
            f"teacher={run.path} was trained on {what}: scores there are not of what is unseen" for what in told if what
        ]
    return found


class UnseenLevels(BaseCallback):
    """Tells a teacher, rollout by rollout, which of its networks have not seen the level of which observation.

    Args:
        teacher: The teacher.
        seen: Of :func:`levels_seen`.
    """

    def __init__(self, teacher: Teacher, seen: Sequence[LevelSet | None]) -> None:
        super().__init__()
        self.teacher, self.seen = teacher, list(seen)
        self._now = np.zeros(0, dtype=np.int64)
        self._rows: list[NDArray[np.int64]] = []

    def _on_training_start(self) -> None:
        env: Any = self.training_env.unwrapped
        assert isinstance(env, ProcgenVecEnv)
        self._now = np.array(env.engine.info()["level_seed"], dtype=np.int64)

    def _on_rollout_start(self) -> None:
        self._rows = []

    def _on_step(self) -> bool:
        self._rows.append(self._now)
        self._now = np.array([info["level_seed"] for info in self.locals["infos"]], dtype=np.int64)
        return True

    def _on_rollout_end(self) -> None:
        levels, places = np.unique(np.concatenate(self._rows), return_inverse=True)
        unseen = np.array([[one is None or level not in one for one in self.seen] for level in levels.tolist()])
        self.teacher.answering = torch.as_tensor(unseen[places], device=self.model.device)
