"""Extractors against a second implementation, and what is fast about them against what is plain."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from kdrl.extractors import EXTRACTORS, policy_kwargs

FRAMES = spaces.Box(0, 255, (3, 64, 64), np.uint8)


def cnn_policy(extractor: str = "small", features_dim: int = 32, seed: int = 0) -> ActorCriticCnnPolicy:
    torch.manual_seed(seed)
    network: dict[str, Any] = policy_kwargs(extractor, features_dim)
    return ActorCriticCnnPolicy(FRAMES, spaces.Discrete(15), lambda _: 1e-3, **network)


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
    torch.testing.assert_close(extractor(frames.float()), expected, rtol=1e-4, atol=1e-6)


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
    pooled: dict[str, Any] = policy_kwargs(name, 24, pooled=True)
    assert pooled["features_extractor_kwargs"]["pooled"]


@pytest.mark.parametrize("name", EXTRACTORS)
def test_features_depend_on_weights_and_frame_only(name: str, frames: Tensor) -> None:
    first, second, other = (cnn_policy(name, seed=seed).features_extractor for seed in (0, 0, 1))
    inputs = frames.float()
    with torch.no_grad():
        features = first(inputs)
        assert torch.equal(features, second(inputs))
        assert not torch.allclose(features, other(inputs), atol=1e-3)
        # Neither the memory layout of the frames nor their neighbours in the batch matter.
        torch.testing.assert_close(features, first(inputs.contiguous(memory_format=torch.channels_last)))
        torch.testing.assert_close(features[2:3], first(inputs[2:3]), rtol=1e-4, atol=1e-5)
    assert (features[0] - features[1]).abs().max() > 1e-3


@pytest.mark.parametrize("name", EXTRACTORS)
def test_bytes_give_what_numbers_in_the_unit_range_give(name: str, frames: Tensor) -> None:
    """The same features and gradients where the division is the weights', and nothing is overwritten that is asked."""
    plain, fast = (EXTRACTORS[name](FRAMES, 24, scale=scale).double() for scale in (1.0, 255.0))
    fast.load_state_dict(plain.state_dict())
    mix = torch.randn(24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = []
    for extractor, inputs in ((plain, frames.double() / 255), (fast, frames.double())):
        features = extractor(inputs)
        gradients.append([features, *torch.autograd.grad((features @ mix).sum(), list(extractor.parameters()))])
    for slow, quick in zip(*gradients, strict=True):
        assert slow.abs().max() > 0
        torch.testing.assert_close(quick, slow, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    torch.manual_seed(0)
    space = spaces.Box(0, 255, (1, 16, 16), np.uint8)
    extractor = EXTRACTORS[name](space, 2, scale=255.0).double()
    inputs = 255 * torch.rand(2, 1, 16, 16, dtype=torch.float64)
    assert torch.autograd.gradcheck(extractor, inputs.requires_grad_(), eps=1e-4)


@pytest.mark.parametrize("name", EXTRACTORS)
def test_reduced_precision_is_of_the_extractor_alone(name: str, frames: Tensor) -> None:
    torch.manual_seed(0)
    full: Any = EXTRACTORS[name](FRAMES, 24, scale=255.0)
    reduced: Any = EXTRACTORS[name](FRAMES, 24, scale=255.0, precision="bf16-mixed")
    reduced.load_state_dict(full.state_dict())
    expected, features = full(frames.float()), reduced(frames.float())
    assert features.dtype == torch.float32 and not torch.equal(features, expected)
    torch.testing.assert_close(features, expected, rtol=0.05, atol=0.02)
    features.sum().backward()
    assert {parameter.grad.dtype for parameter in reduced.parameters()} == {torch.float32}
    assert policy_kwargs(name, precision="bf16-mixed")["features_extractor_kwargs"]["precision"] == "bf16-mixed"


def test_the_optimizer_is_stock_ppos() -> None:
    ours = cnn_policy()
    network = {key: value for key, value in policy_kwargs("small", 32).items() if key != "optimizer_class"}
    stock = ActorCriticCnnPolicy(FRAMES, spaces.Discrete(15), lambda _: 1e-3, **network)
    stock.load_state_dict(ours.state_dict())
    fused, plain = ours.optimizer.param_groups[0], stock.optimizer.param_groups[0]
    assert fused["fused"] and {**fused, "fused": 0, "params": 0} == {**plain, "fused": 0, "params": 0}
    for policy in (ours, stock):
        for step in range(3):
            policy.optimizer.zero_grad()
            policy(torch.full((2, 3, 64, 64), 40 * step, dtype=torch.uint8), deterministic=True)[1].sum().backward()
            policy.optimizer.step()
    for mine, theirs in zip(ours.parameters(), stock.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


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
