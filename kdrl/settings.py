"""The typed form of the RL configuration files."""

from typing import Annotated, Any, Literal

import gymnasium as gym
from pydantic import Discriminator, Field, Tag
from pydantic.dataclasses import dataclass
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy

from common.arguments import Count, CountFromZero, Range, Seed
from common.errors import InputError
from common.procgen import LOOKS
from common.runs.records import Weights
from common.runs.settings import STRICT, ExportSettings, JudgeSettings, RunSettings
from kdrl.extractors import Precision, policy_kwargs
from kdrl.gymnasium_game import GymnasiumSettings
from kdrl.procgen_game import ProcgenSettings, one_of

FLAT = "mlp"
"""The network of observations that are no pictures."""


_PROCGEN, _GYMNASIUM = "kind[procgen]", "kind[gymnasium]"


def _kind(value: Any) -> str:
    """Tasks of Gymnasium have an id."""
    is_gymnasium = isinstance(value, GymnasiumSettings) or (isinstance(value, dict) and "id" in value)
    return _GYMNASIUM if is_gymnasium else _PROCGEN


EnvSettings = Annotated[
    Annotated[ProcgenSettings, Tag(_PROCGEN)] | Annotated[GymnasiumSettings, Tag(_GYMNASIUM)], Discriminator(_kind)
]
"""Config group ``env``."""


@dataclass(config=STRICT, kw_only=True)
class NetworkSettings:
    """Config group ``network``: arguments of :func:`kdrl.extractors.policy_kwargs`."""

    name: str
    task: Literal["rl"]
    extractor: str
    features_dim: Annotated[int, Range(1, 2**16)]
    pooled: bool = False
    precision: Precision = "32-true"

    def check(self, seen: gym.Space[Any]) -> None:
        """Raise unless the network is for what is seen.

        Raises:
            InputError: naming a network that is.
        """
        is_picture = seen.shape is not None and len(seen.shape) == 3
        if is_picture == (self.extractor == FLAT):
            other = "small or network=impala" if is_picture else "mlp"
            raise InputError(f"network={self.name} does not fit observations {seen}; use network={other}")
        if self.extractor == FLAT and (self.pooled or self.precision != "32-true"):
            raise InputError(f"network={self.name}: pooled and precision are for networks of pictures; leave them")

    @property
    def policy_class(self) -> type[ActorCriticPolicy]:
        """Of Stable-Baselines3's policies."""
        return ActorCriticPolicy if self.extractor == FLAT else ActorCriticCnnPolicy

    @property
    def kwargs(self) -> dict[str, Any]:
        """For Stable-Baselines3's policies."""
        if self.extractor == FLAT:
            return {"net_arch": [self.features_dim, self.features_dim]}
        return policy_kwargs(self.extractor, self.features_dim, self.pooled, self.precision)


@dataclass(config=STRICT, kw_only=True)
class EvaluationSettings:
    """What is measured at the end and along the way."""

    episodes: Count
    looks: list[Annotated[str, one_of(LOOKS, "evaluation.looks")]]
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
    looks: list[Annotated[str, one_of(LOOKS, "looks")]]
    num_envs: Annotated[int, Range(1, 4096)]
    seed: Seed
    modules: list[str]


@dataclass(config=STRICT, kw_only=True)
class PolicyExportSettings(ExportSettings):
    """``configs/kdrl/export.yaml``."""

    modules: list[str]


@dataclass(config=STRICT, kw_only=True)
class PlaySettings:
    """``configs/kdrl/play.yaml``."""

    run: str
    weights: Weights
    unfinished: bool
    out: str
    looks: list[Annotated[str, one_of(LOOKS, "looks")]]
    episodes: Count
    most: Annotated[int, Range(1, 10_000)]
    rate: Annotated[int, Range(1, 60)]
    greedy: bool
    seed: Seed
    device: str
    modules: list[str]
