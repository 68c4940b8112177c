"""A policy seen as a network of logits."""

from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from common.errors import InputError
from common.teacher import Teacher

# Where archives of version 0.1 look for them.
from kdrl.extractors import ImpalaCNN as ImpalaCNN
from kdrl.extractors import SmallCNN as SmallCNN

Hears = Literal["raw", "student", "unsaid"]
"""What a network is to be shown: observations as they were before they were normalised, or what the student sees."""


class PolicyLogits(nn.Module):
    """A policy's action logits as a plain network from observations: the form a teacher takes.

    Holds the actor's modules only, neither the critic nor the optimiser.

    Args:
        policy: A policy with discrete actions and Box observations.
        statistics: How its environment normalised observations while it was trained: the ``VecNormalize``, whose
            statistics as they are now travel with the network; ``none`` if it did not; or ``student``, if the
            network knows what the student sees, whatever that is. ``None`` leaves it open, which will do where the
            student's observations are not normalised either.

    Raises:
        InputError: another action or observation space, or statistics of no observations.
    """

    def __init__(
        self, policy: ActorCriticPolicy, statistics: VecNormalize | Literal["student", "none"] | None = None
    ) -> None:
        super().__init__()
        check_spaces(policy.observation_space, policy.action_space)
        self.hears: Hears = "unsaid" if statistics is None else "student" if statistics == "student" else "raw"
        self.statistics = Statistics(statistics) if isinstance(statistics, VecNormalize) else None
        self.observation_space = policy.observation_space
        self.normalize_images = policy.normalize_images
        self.features_extractor = policy.pi_features_extractor
        self.latent = policy.mlp_extractor.policy_net
        self.head = policy.action_net

    def forward(self, observations: Tensor) -> Tensor:
        """Logits ``[B, actions]`` of raw observations, ``uint8 [B, 3, 64, 64]`` for Procgen."""
        logits: Tensor = self.head(self.features(observations))
        return logits

    def features(self, observations: Tensor) -> Tensor:
        """What the head is given, ``[B, D]``, of raw observations."""
        features: Tensor = self.latent(self.features_extractor(self._inputs(observations)))
        return features

    @property
    def encoder(self) -> nn.Module:
        """The feature extractor."""
        return self.features_extractor

    def encode(self, observations: Tensor) -> Tensor:
        """What the extractor makes of raw observations, ``[B, D]``."""
        features: Tensor = self.features_extractor(self._inputs(observations))
        return features

    def _inputs(self, observations: Tensor) -> Tensor:
        if self.statistics is not None:
            observations = self.statistics(observations)
        inputs = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        assert isinstance(inputs, Tensor)
        return inputs


class Statistics(nn.Module):
    """Normalises observations as a ``VecNormalize`` does, whose statistics it keeps as they are now.

    Args:
        normalizer: One of array observations.

    Raises:
        InputError: it does not normalise observations, or not arrays.
    """

    def __init__(self, normalizer: VecNormalize) -> None:
        super().__init__()
        if not normalizer.norm_obs or not isinstance(normalizer.obs_rms, RunningMeanStd):
            raise InputError("statistics: this VecNormalize does not normalise array observations; leave it out")
        self.limit: float = float(normalizer.clip_obs)
        self.mean: Tensor
        self.deviation: Tensor
        rms = normalizer.obs_rms
        self.register_buffer("mean", torch.as_tensor(rms.mean, dtype=torch.float64))
        self.register_buffer("deviation", torch.as_tensor(np.sqrt(rms.var + normalizer.epsilon), dtype=torch.float64))

    def forward(self, observations: Tensor) -> Tensor:
        """``float32 [B, *]`` of raw observations."""
        return ((observations.double() - self.mean) / self.deviation).clamp(-self.limit, self.limit).float()

    def undo(self, observations: Tensor) -> Tensor:
        """Raw observations, but for what was clipped."""
        return (observations.double() * self.deviation + self.mean).float()


class PolicyJudge(PolicyLogits):
    """A policy with its critic: the form of a teacher whose values are asked as well.

    Called, it answers with logits like :class:`PolicyLogits`; :meth:`judge` gives the values too.

    Args:
        policy: As in :class:`PolicyLogits`.
        statistics: As there. Its values are those of its own rewards, normalised if they were.

    Raises:
        InputError: as there.
    """

    def __init__(
        self, policy: ActorCriticPolicy, statistics: VecNormalize | Literal["student", "none"] | None = None
    ) -> None:
        super().__init__(policy, statistics)
        self.critic_extractor = policy.vf_features_extractor
        self.critic_latent = policy.mlp_extractor.value_net
        self.critic_head = policy.value_net

    def judge(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, actions]`` and values ``[B]`` of raw observations; a trunk they share runs once."""
        inputs = self._inputs(observations)
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


def hears(teacher: Teacher, normalizer: VecNormalize | None) -> Hears:
    """What a teacher is to be shown of a student's observations.

    Args:
        teacher: Its networks say it by an attribute ``hears``, as :class:`PolicyLogits` does.
        normalizer: What normalises the student's, if anything does.

    Raises:
        InputError: they are normalised, and a network does not say what it knows, or two know different things.
    """
    if normalizer is None:
        return "student"  # who sees raw observations
    kinds = {getattr(network, "hears", "unsaid") for network in teacher.networks}
    if "unsaid" in kinds:
        raise InputError(
            "the student's observations are normalised by its VecNormalize; say how the teacher's were:"
            " PolicyLogits(policy, statistics=…) with the teacher's own VecNormalize, 'none', or 'student' if it knows"
            " the student's"
        )
    if len(kinds) > 1:
        raise InputError(
            "some of the teacher's networks know the student's statistics and some have their own; use one"
        )
    return "raw" if kinds == {"raw"} else "student"


def check_teacher(
    teacher: Teacher,
    student: ActorCriticPolicy,
    with_values: bool = False,
    normalizer: VecNormalize | None = None,
) -> None:
    """Raise unless ``teacher`` answers what ``student`` sees with logits of the student's actions.

    Args:
        teacher: Where the student is.
        student: With discrete actions.
        with_values: Whether its values will be asked.
        normalizer: What normalises the student's observations, if anything does.

    Raises:
        InputError: other observations or actions, weights shared with the student, or no critic where one is asked.
    """
    if with_values and not teacher.has_values:
        raise InputError("the teacher has no critic whose values could be asked; make it of kdrl.networks.PolicyJudge")
    ours = student.observation_space
    if hears(teacher, normalizer) == "raw":
        assert normalizer is not None
        ours = normalizer.venv.observation_space
    for network in teacher.networks:
        if isinstance(network, PolicyLogits) and network.statistics is None:
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
