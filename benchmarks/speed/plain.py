"""Stable-Baselines3's PPO on Procgen as its documentation has users write it, without what makes this package fast.

Frames come as pictures, which the library's ``VecTransposeImage`` turns; networks are plain, of our networks' shape.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor, nn
from torch.nn import functional as F


class Pictures(VecEnvWrapper):
    """Frames ``uint8 [N, 64, 64, 3]``, as engines and most environments give them."""

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv, observation_space=spaces.Box(0, 255, (64, 64, 3), np.uint8))

    def reset(self) -> NDArray[np.uint8]:
        return np.asarray(self.venv.reset()).transpose(0, 2, 3, 1)

    def step_wait(self) -> VecEnvStepReturn:
        frames, rewards, dones, infos = self.venv.step_wait()
        return np.asarray(frames).transpose(0, 2, 3, 1), rewards, dones, infos


class PlainSmall(BaseFeaturesExtractor):
    def __init__(self, observation_space: gym.Space[Any], features_dim: int) -> None:
        super().__init__(observation_space, features_dim)
        self.network = nn.Sequential(
            nn.Conv2d(3, 16, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, features_dim),
            nn.ReLU(),
        )

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.network(observations)
        return features


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.relu(self.first(F.relu(x))))
        return x + change


class PlainImpala(BaseFeaturesExtractor):
    def __init__(self, observation_space: gym.Space[Any], features_dim: int) -> None:
        super().__init__(observation_space, features_dim)
        layers: list[nn.Module] = []
        for inputs, outputs in ((3, 16), (16, 32), (32, 32)):
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [_Residual(outputs), _Residual(outputs)]
        self.network = nn.Sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(2048, features_dim), nn.ReLU())

    def forward(self, observations: Tensor) -> Tensor:
        features: Tensor = self.network(observations)
        return features


PLAIN = {"small": PlainSmall, "impala": PlainImpala}


def plain_kwargs(extractor: str, features_dim: int) -> dict[str, Any]:
    """``policy_kwargs`` of a plain network of the shape of ours."""
    return {
        "features_extractor_class": PLAIN[extractor],
        "features_extractor_kwargs": {"features_dim": features_dim},
        "net_arch": [],
        "ortho_init": False,
    }


def parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(parameter.numel() for parameter in network.parameters())
