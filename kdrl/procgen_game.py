"""The sixteen games of Procgen: levels, looks, difficulties."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from pydantic import AfterValidator
from pydantic.dataclasses import dataclass
from stable_baselines3.common.vec_env import VecEnv

from common.arguments import Count, CountFromZero, Range
from common.errors import choice
from common.procgen import ACTION_COUNT, ACTION_NAMES, DIFFICULTIES, GAMES, LOOKS, LevelSet
from common.procgen.constants import normalized_return
from common.runs.settings import STRICT
from kdrl.env import ProcgenVecEnv
from kdrl.game import Game, Part

VALIDATION_LEVELS = 1000
# Channel first, as kdrl.ProcgenVecEnv gives frames.
OBSERVATION_SPACE = spaces.Box(0, 255, (3, 64, 64), np.uint8)


def one_of(options: Collection[str], where: str) -> AfterValidator:
    """An annotation: one of some names."""
    return AfterValidator(lambda value: choice(value, options, where))


@dataclass(config=STRICT, kw_only=True)
class ProcgenSettings(Game):
    """``env=GAME``: names as in :class:`kdrl.ProcgenVecEnv`."""

    game: Annotated[str, one_of(GAMES, "env.game")]
    difficulty: Annotated[str, one_of(DIFFICULTIES, "env.difficulty")]
    look: Annotated[str, one_of(LOOKS, "env.look")]
    num_envs: Annotated[int, Range(1, 4096)]
    start_level: CountFromZero
    num_levels: Count
    threads: Annotated[int, Range(0, 256)] | None

    def seen(self) -> LevelSet:
        """The training levels."""
        return LevelSet.seen(self.start_level, self.num_levels)

    def parts(self, looks: Sequence[str]) -> list[Part]:
        """Training levels, validation levels and unseen levels in the training look, then unseen ones in other looks.

        Raises:
            InputError: an unknown look.
        """
        for look in looks:
            choice(look, LOOKS, "evaluation.looks")
        others = [look for look in looks if look != self.look]
        validation = LevelSet.validation(self.seen(), count=VALIDATION_LEVELS)
        return [
            Part(self.look, self.seen(), seen=True),
            Part(self.look, validation, seen=False, split="validation"),
            *(Part(look, LevelSet.unseen(), seen=False) for look in (self.look, *others)),
        ]

    def venv(self, part: Part, num_envs: int, seed: int, render: bool = False) -> VecEnv:
        """See :meth:`Game.venv`."""
        return ProcgenVecEnv(
            self.game,
            num_envs=num_envs,
            levels=part.levels,
            look=part.variant,
            difficulty=self.difficulty,
            seed=seed,
            threads=self.threads,
            render_mode="rgb_array" if render else None,
        )

    def training_venv(self, seed: int) -> VecEnv:
        """See :meth:`Game.training_venv`."""
        return self.venv(self.parts([])[0], self.num_envs, seed)

    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """See :meth:`Game.spaces`."""
        return OBSERVATION_SPACE, spaces.Discrete(ACTION_COUNT)

    def scores(self, mean: float) -> Mapping[str, float]:
        """The normalised forms under both published constant sets."""
        names = (("normalized_return", "code"), ("normalized_return_paper", "paper"))
        return {
            name: float(normalized_return(self.game, self.difficulty, mean, constants=constants))
            for name, constants in names
        }

    def facts(self) -> Mapping[str, Any]:
        """See :meth:`Game.facts`."""
        levels = {"start": self.start_level, "count": self.num_levels}
        return {"difficulty": self.difficulty, "look": self.look, "levels": levels}

    def saw(self, part: Part, of: Game) -> str:
        """See :meth:`Game.saw`. That the test draws from all levels there are, these among them, is no matter."""
        if not isinstance(of, ProcgenSettings) or (self.look, self.difficulty) != (part.variant, of.difficulty):
            return ""
        if part.variant != of.look:
            return f"env.look={part.variant}"
        assert part.levels is not None
        shared = self.seen().shared(part.levels) if part.levels.bounded else 0
        return f"{shared:,} of the {part.levels.count:,} validation levels" if shared else ""

    def action_names(self) -> Sequence[str]:
        """See :meth:`Game.action_names`."""
        return ACTION_NAMES
