"""Feature extractors for Procgen frames, and a policy seen as a network of logits."""

import itertools
from typing import Any

import gymnasium as gym
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from common.errors import InputError, choice
from common.teacher import Teacher


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + change


def _impala_block(inputs: int, outputs: int) -> nn.Sequential:
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), pool, _Residual(outputs), _Residual(outputs))


def _dense(convolution: nn.Module, space: gym.Space[Any], features_dim: int) -> nn.Sequential:
    assert space.shape is not None
    with torch.no_grad():
        width = convolution(torch.zeros(1, *space.shape)).flatten(1).shape[1]
    return nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(width, features_dim), nn.ReLU())


class _FrameExtractor(BaseFeaturesExtractor):
    """Convolutions, then one dense layer, on channel-first frames ``[B, C, H, W]`` in [0, 1]."""

    def __init__(self, observation_space: gym.Space[Any], features_dim: int, convolution: nn.Module) -> None:
        super().__init__(observation_space, features_dim)
        # channels_last pays on both CPU and GPU for convolutions this narrow.
        self.convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dense = _dense(convolution, observation_space, features_dim)

    def forward(self, observations: Tensor) -> Tensor:
        """Features ``[B, features_dim]``."""
        frames = observations.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.dense(self.convolution(frames))
        return features


class ImpalaCNN(_FrameExtractor):
    """The residual network of IMPALA (Espeholt et al. 2018, figure 3) as Procgen's authors use it.

    Args:
        observation_space: Channel-first frames.
        features_dim: Width of the dense layer; 256 in Cobbe et al. 2020.
        channels: Channels of the three blocks; 16, 32, 32 there.
    """

    def __init__(
        self, observation_space: gym.Space[Any], features_dim: int = 256, channels: tuple[int, ...] = (16, 32, 32)
    ) -> None:
        assert observation_space.shape is not None
        widths = (observation_space.shape[0], *channels)
        blocks = [_impala_block(inputs, outputs) for inputs, outputs in itertools.pairwise(widths)]
        super().__init__(observation_space, features_dim, nn.Sequential(*blocks))


class SmallCNN(_FrameExtractor):
    """Three strided convolutions: about twenty times IMPALA's speed on a CPU, for laptops and tests.

    Args:
        observation_space: Channel-first frames.
        features_dim: Width of the dense layer.
        channels: Channels of the three convolutions.
    """

    def __init__(
        self, observation_space: gym.Space[Any], features_dim: int = 128, channels: tuple[int, int, int] = (16, 32, 32)
    ) -> None:
        assert observation_space.shape is not None
        first, second, third = channels
        convolution = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], first, 8, stride=4, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
        )
        super().__init__(observation_space, features_dim, convolution)


EXTRACTORS: dict[str, type[_FrameExtractor]] = {"impala": ImpalaCNN, "small": SmallCNN}


def policy_kwargs(extractor: str = "small", features_dim: int = 256) -> dict[str, Any]:
    """``policy_kwargs`` for Stable-Baselines3: the extractor, and nothing between it and the heads.

    Args:
        extractor: A name in :data:`EXTRACTORS`.
        features_dim: Width of its dense layer.

    Raises:
        InputError: unknown extractor, or a width below one.
    """
    choice(extractor, EXTRACTORS, "network.extractor")
    if features_dim < 1:
        raise InputError(f"network.features_dim={features_dim} must be at least 1")
    return {
        "features_extractor_class": EXTRACTORS[extractor],
        "features_extractor_kwargs": {"features_dim": features_dim},
        # Procgen's protocol: linear heads on the extractor; the default would add two tanh layers.
        "net_arch": [],
        "ortho_init": False,
    }


class PolicyLogits(nn.Module):
    """A policy's action logits as a plain network from observations: the form a teacher takes.

    Holds the actor's modules only, neither the critic nor the optimiser.

    Args:
        policy: A policy with discrete actions and Box observations.

    Raises:
        InputError: another action or observation space.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        check_spaces(policy.observation_space, policy.action_space)
        self.observation_space = policy.observation_space
        self.normalize_images = policy.normalize_images
        self.features_extractor = policy.pi_features_extractor
        self.latent = policy.mlp_extractor.policy_net
        self.head = policy.action_net

    def forward(self, observations: Tensor) -> Tensor:
        """Logits ``[B, actions]`` of raw observations, ``uint8 [B, 3, 64, 64]`` for Procgen."""
        inputs = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        logits: Tensor = self.head(self.latent(self.features_extractor(inputs)))
        return logits


class PolicyJudge(PolicyLogits):
    """A policy with its critic: the form of a teacher whose values are asked as well.

    Called, it answers with logits like :class:`PolicyLogits`; :meth:`judge` gives the values too.

    Args:
        policy: As in :class:`PolicyLogits`.

    Raises:
        InputError: as there.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__(policy)
        self.critic_extractor = policy.vf_features_extractor
        self.critic_latent = policy.mlp_extractor.value_net
        self.critic_head = policy.value_net

    def judge(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, actions]`` and values ``[B]`` of raw observations; a trunk they share runs once."""
        inputs = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        features = self.features_extractor(inputs)
        shared = self.critic_extractor is self.features_extractor
        of_critic = features if shared else self.critic_extractor(inputs)
        return self.head(self.latent(features)), self.critic_head(self.critic_latent(of_critic)).flatten()


def check_spaces(observation_space: gym.Space[Any], action_space: gym.Space[Any]) -> None:
    """Raise unless distillation is defined: array observations and discrete actions.

    Raises:
        InputError: naming the space and what would do.
    """
    if not isinstance(action_space, spaces.Discrete):
        raise InputError(f"distillation needs a Discrete action space, got {action_space}")
    if not isinstance(observation_space, spaces.Box):
        raise InputError(f"distillation needs a Box observation space, got {observation_space}")


def check_teacher(teacher: Teacher, student: ActorCriticPolicy, with_values: bool = False) -> None:
    """Raise unless ``teacher`` answers what ``student`` sees with logits of the student's actions.

    Args:
        teacher: Where the student is.
        student: With discrete actions.
        with_values: Whether its values will be asked.

    Raises:
        InputError: other observations or actions, weights shared with the student, or no critic where one is asked.
    """
    if with_values and not teacher.has_values:
        raise InputError("the teacher has no critic whose values could be asked; make it of kdrl.networks.PolicyJudge")
    ours = student.observation_space
    for network in teacher.networks:
        if isinstance(network, PolicyLogits):
            theirs = network.observation_space
            if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
                raise InputError(
                    f"the teacher sees {theirs}, the student {ours}; give a teacher of the same observations"
                )
    teacher.check_apart(student)
    try:
        shape = tuple(teacher(torch.as_tensor(ours.sample()[None], device=student.device)).shape)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(
            f"the teacher cannot take the student's observations, {ours} ({reason}); "
            "give a teacher of the same observations"
        ) from error
    assert isinstance(student.action_space, spaces.Discrete)
    if shape != (1, student.action_space.n):
        raise InputError(
            f"the teacher's logits have shape {shape[1:]}, the student has {student.action_space.n} actions; "
            "give a teacher of the same actions"
        )
