"""What a policy plays: where it trains, where it is judged, and what a return there is worth."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv

from common.procgen import LevelSet
from common.runs.records import Split


@dataclasses.dataclass(frozen=True)
class Part:
    """Where a policy is tested.

    Attributes:
        variant: Of the game: a look of Procgen's, or physics.
        levels: Of Procgen's; ``None`` for others.
        seen: Whether training saw it.
        split: What it is for.
    """

    variant: str
    levels: LevelSet | None
    seen: bool
    split: Split = "test"

    def domain(self, game: str) -> str:
        """Name in records: game and variant."""
        return f"{game}/{self.variant}"


class Game(ABC):
    """The config group ``env``.

    Attributes:
        game: Its name in records.
        num_envs: Environments in training.
    """

    game: str
    num_envs: int

    @abstractmethod
    def parts(self, looks: Sequence[str]) -> list[Part]:
        """What training has seen, its validation, and then what it has not seen, the most like it first.

        Raises:
            InputError: an unknown look.
        """

    @abstractmethod
    def venv(self, part: Part, num_envs: int, seed: int, render: bool = False) -> VecEnv:
        """Environments of a part.

        Raises:
            InputError: a game that cannot be made.
        """

    @abstractmethod
    def training_venv(self, seed: int) -> VecEnv:
        """Those that are trained in, without statistics of episodes and rewards."""

    @abstractmethod
    def spaces(self) -> tuple[gym.Space[Any], gym.Space[Any]]:
        """Of observations, as policies get them, and of actions."""

    @abstractmethod
    def scores(self, mean: float) -> Mapping[str, float]:
        """What a mean return is worth, by metric; empty where nobody says."""

    @abstractmethod
    def facts(self) -> Mapping[str, Any]:
        """What of it can change a result, for a run's identity."""

    @abstractmethod
    def saw(self, part: Part, of: "Game") -> str:
        """What training as configured here sees of what ``of`` is judged on as unseen, in words; empty for nothing."""

    @property
    def source(self) -> str:
        """The domain that is trained on."""
        return self.parts([])[0].domain(self.game)

    def action_names(self) -> Sequence[str]:
        """By number."""
        _, actions = self.spaces()
        assert isinstance(actions, spaces.Discrete)
        return [f"action {number}" for number in range(int(actions.n))]
