"""A policy as a network of logits."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from torch import Tensor, nn

from common.errors import InputError
from kdrl.extractors import EXTRACTORS, policy_kwargs
from kdrl.networks import PolicyLogits, check_spaces
from tests.kdrl.test_extractors import FRAMES, cnn_policy

ACTIONS = spaces.Discrete(15)


def assert_same_distribution(policy: ActorCriticPolicy, observations: Tensor) -> None:
    policy.set_training_mode(False)
    network = PolicyLogits(policy)
    with torch.no_grad():
        logits = network(observations)
        expected = policy.get_distribution(observations).distribution.logits
    assert isinstance(expected, Tensor)
    assert logits.shape == expected.shape
    difference = logits - expected
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), rtol=0, atol=1e-5)
    assert expected.std(dim=0).max() > 1e-4  # the policy does look at its observations


@pytest.mark.parametrize("name", EXTRACTORS)
def test_policy_logits_are_the_policys(name: str, frames: Tensor) -> None:
    assert_same_distribution(cnn_policy(name), frames)


def test_policy_logits_use_the_actors_extractor_where_the_critic_has_its_own(frames: Tensor) -> None:
    network: dict[str, Any] = policy_kwargs("small", 32)
    assert_same_distribution(
        ActorCriticCnnPolicy(FRAMES, ACTIONS, lambda _: 1e-3, share_features_extractor=False, **network), frames
    )


def test_policy_logits_of_vectors() -> None:
    torch.manual_seed(0)
    policy = ActorCriticPolicy(spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(3), lambda _: 1e-3)
    nn.init.normal_(policy.action_net.weight)
    assert_same_distribution(policy, torch.randn(10, 4))


def test_policy_logits_hold_the_actor_only() -> None:
    policy = cnn_policy()
    held = {id(parameter) for parameter in PolicyLogits(policy).parameters()}
    critic = {id(parameter) for parameter in policy.value_net.parameters()}
    assert held == {id(parameter) for parameter in policy.parameters()} - critic


def test_heads_sit_on_the_extractor() -> None:
    policy = cnn_policy(features_dim=24)
    assert policy.action_net.in_features == policy.value_net.in_features == 24
    assert list(policy.mlp_extractor.parameters()) == []


@pytest.mark.parametrize(
    ("observations", "actions", "message"),
    [
        (FRAMES, spaces.Box(-1, 1, (2,), np.float32), "distillation needs a Discrete action space, got Box"),
        (FRAMES, spaces.MultiDiscrete([2, 3]), "distillation needs a Discrete action space, got MultiDiscrete"),
        (spaces.Dict({"frame": FRAMES}), ACTIONS, "distillation needs a Box observation space, got Dict"),
        (spaces.Discrete(3), ACTIONS, "distillation needs a Box observation space, got Discrete"),
    ],
)
def test_other_spaces_are_refused(observations: gymnasium.Space, actions: gymnasium.Space, message: str) -> None:
    with pytest.raises(InputError) as caught:
        check_spaces(observations, actions)
    assert str(caught.value).startswith(message)
    check_spaces(FRAMES, ACTIONS)


def test_policy_logits_refuse_other_spaces() -> None:
    policy = ActorCriticPolicy(spaces.Box(-1, 1, (4,), np.float32), spaces.Box(-1, 1, (2,)), lambda _: 1e-3)
    with pytest.raises(InputError, match="needs a Discrete action space"):
        PolicyLogits(policy)
