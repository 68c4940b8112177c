"""Extractors against a second implementation, and a policy as a network of logits."""

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from kdrl import ProcgenVecEnv
from kdrl.networks import EXTRACTORS, PolicyLogits, check_spaces, policy_kwargs

FRAMES = spaces.Box(0, 255, (3, 64, 64), np.uint8)
ACTIONS = spaces.Discrete(15)


def cnn_policy(extractor: str = "small", features_dim: int = 32, seed: int = 0) -> ActorCriticCnnPolicy:
    torch.manual_seed(seed)
    network: dict[str, Any] = policy_kwargs(extractor, features_dim)
    return ActorCriticCnnPolicy(FRAMES, ACTIONS, lambda _: 1e-3, **network)


@pytest.fixture(scope="module")
def frames() -> Tensor:
    """Real first frames ``uint8 [6, 3, 64, 64]``."""
    env = ProcgenVecEnv("coinrun", 6, threads=0)
    observations = torch.as_tensor(env.reset())
    env.close()
    return observations


def test_impala_has_the_papers_626k_parameters() -> None:
    def conv(inputs: int, outputs: int) -> int:
        return 9 * inputs * outputs + outputs

    channels = [(3, 16), (16, 32), (32, 32)]
    blocks = sum(conv(inputs, outputs) + 4 * conv(outputs, outputs) for inputs, outputs in channels)
    # Three poolings by two: 64 to 8.
    dense, heads = 32 * 8 * 8 * 256 + 256, (256 + 1) * (15 + 1)
    policy = cnn_policy("impala", 256)
    assert sum(parameter.numel() for parameter in policy.parameters()) == blocks + dense + heads == 626_256
    assert policy.action_net.in_features == policy.value_net.in_features == 256


def test_impala_is_the_published_network(frames: Tensor) -> None:
    extractor = cnn_policy("impala", 16).features_extractor
    weights = {name: value.contiguous() for name, value in extractor.state_dict().items()}
    convolutions = iter([name.removesuffix(".weight") for name in weights if name.startswith("convolution")][::2])

    def conv(x: Tensor) -> Tensor:
        name = next(convolutions)
        return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"], padding=1)

    x = frames.float() / 255
    for _ in range(3):
        x = F.max_pool2d(conv(x), 3, stride=2, padding=1)
        for _ in range(2):
            x = x + conv(conv(x.relu()).relu())
    assert next(convolutions, None) is None
    name = next(name for name in weights if name.startswith("dense")).removesuffix(".weight")
    expected = F.linear(x.relu().flatten(1), weights[f"{name}.weight"], weights[f"{name}.bias"]).relu()
    torch.testing.assert_close(extractor(frames.float() / 255), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", EXTRACTORS)
@pytest.mark.parametrize("shape", [(3, 64, 64), (1, 40, 56)])
def test_features_have_the_width_asked_for(name: str, shape: tuple[int, ...]) -> None:
    extractor = EXTRACTORS[name](spaces.Box(0, 255, shape, np.uint8), 24)
    assert extractor.features_dim == 24
    assert extractor(torch.rand(5, *shape)).shape == (5, 24)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_pooled_features_are_those_of_the_channels_means(name: str) -> None:
    extractor = EXTRACTORS[name](spaces.Box(0, 255, (3, 64, 64), np.uint8), 24, pooled=True)
    (dense,) = (module for module in extractor.dense if isinstance(module, nn.Linear))
    assert dense.in_features == 32
    frames = torch.rand(5, 3, 64, 64)
    means = extractor.convolution(frames).relu().mean(dim=(2, 3))
    torch.testing.assert_close(extractor(frames), dense(means).relu())
    assert policy_kwargs(name, 24, pooled=True)["features_extractor_kwargs"] == {"features_dim": 24, "pooled": True}
    assert policy_kwargs(name, 24)["features_extractor_kwargs"] == {"features_dim": 24}


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_depend_on_weights_and_frame_only(name: str, frames: Tensor) -> None:
    first, second, other = (cnn_policy(name, seed=seed).features_extractor for seed in (0, 0, 1))
    inputs = frames.float() / 255
    with torch.no_grad():
        features = first(inputs)
        assert torch.equal(features, second(inputs))
        assert not torch.allclose(features, other(inputs), atol=1e-3)
        # Neither the memory layout of the frames nor their neighbours in the batch matter.
        torch.testing.assert_close(features, first(inputs.contiguous(memory_format=torch.channels_last)))
        torch.testing.assert_close(features[2:3], first(inputs[2:3]), rtol=1e-4, atol=1e-5)
    assert (features[0] - features[1]).abs().max() > 1e-3


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"extractor": "resnet"}, "network.extractor='resnet' is not known; use one of: impala, small"),
        ({"features_dim": 0}, "network.features_dim=0 must be at least 1"),
    ],
)
def test_policy_kwargs_name_what_is_wrong(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        policy_kwargs(**arguments)
    assert str(caught.value) == message


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
