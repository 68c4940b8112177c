"""The typed form of the RL configuration files."""

from collections.abc import Collection
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from common.arguments import Count, CountFromZero, Range, Seed
from common.errors import choice
from common.procgen import DIFFICULTIES, GAMES, LOOKS, LevelSet
from common.runs.records import Weights
from common.runs.settings import STRICT, JudgeSettings, RunSettings
from kdrl.extractors import Precision, policy_kwargs


def _one_of(options: Collection[str], where: str) -> AfterValidator:
    return AfterValidator(lambda value: choice(value, options, where))


@dataclass(config=STRICT, kw_only=True)
class EnvSettings:
    """Config group ``env``: the training environment (names as in :class:`kdrl.ProcgenVecEnv`)."""

    game: Annotated[str, _one_of(GAMES, "env.game")]
    difficulty: Annotated[str, _one_of(DIFFICULTIES, "env.difficulty")]
    look: Annotated[str, _one_of(LOOKS, "env.look")]
    num_envs: Annotated[int, Range(1, 4096)]
    start_level: CountFromZero
    num_levels: Count
    threads: Annotated[int, Range(0, 256)] | None

    def seen(self) -> LevelSet:
        """The training levels."""
        return LevelSet.seen(self.start_level, self.num_levels)


@dataclass(config=STRICT, kw_only=True)
class NetworkSettings:
    """Config group ``network``: arguments of :func:`kdrl.extractors.policy_kwargs`."""

    name: str
    task: Literal["rl"]
    extractor: str
    features_dim: Annotated[int, Range(1, 2**16)]
    pooled: bool = False
    precision: Precision = "32-true"

    @property
    def kwargs(self) -> dict[str, Any]:
        """For Stable-Baselines3's policies."""
        return policy_kwargs(self.extractor, self.features_dim, self.pooled, self.precision)


@dataclass(config=STRICT, kw_only=True)
class EvaluationSettings:
    """What is measured at the end and along the way."""

    episodes: Count
    looks: list[Annotated[str, _one_of(LOOKS, "evaluation.looks")]]
    every: CountFromZero
    progress_episodes: Count


@dataclass(config=STRICT, kw_only=True)
class TrainSettings(RunSettings):
    """``configs/kdrl/train.yaml``."""

    task: Literal["rl"]
    total_timesteps: Count
    device: str
    ppo: dict[str, Any]
    normalize_reward: bool
    evaluation: EvaluationSettings
    env: EnvSettings
    network: NetworkSettings
    driver: dict[str, Any] = Field(default_factory=lambda: {"_target_": "kdrl.drivers.Driver"})


@dataclass(config=STRICT, kw_only=True)
class EvaluateSettings(JudgeSettings):
    """``configs/kdrl/evaluate.yaml``."""

    run: str | Annotated[list[str], Field(min_length=1)]
    episodes: Count
    looks: list[Annotated[str, _one_of(LOOKS, "looks")]]
    num_envs: Annotated[int, Range(1, 4096)]
    seed: Seed


@dataclass(config=STRICT, kw_only=True)
class PlaySettings:
    """``configs/kdrl/play.yaml``."""

    run: str
    weights: Weights
    unfinished: bool
    out: str
    looks: list[Annotated[str, _one_of(LOOKS, "looks")]]
    episodes: Count
    most: Annotated[int, Range(1, 10_000)]
    rate: Annotated[int, Range(1, 60)]
    greedy: bool
    seed: Seed
    device: str
