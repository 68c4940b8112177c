"""Networks of Procgen's frames, and how a policy is made of them.

They are laid out for speed: frames stay the bytes that the engine drew, channels-last, until one pass makes floats of
them, whose division by 255 is part of the first convolution's weights.
"""

import itertools
from typing import Any, Literal

import gymnasium as gym
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from common.errors import InputError, choice

Precision = Literal["32-true", "bf16-mixed"]
"""As Lightning names it."""


class _FirstConvolution(nn.Conv2d):
    """Of frames that are to be divided by ``scale``, which is done to the weights: they are fewer than pixels."""

    def __init__(self, scale: float, inputs: int, outputs: int, size: int, **options: int) -> None:
        super().__init__(inputs, outputs, size, **options)  # type: ignore[arg-type]
        self.scale = scale

    def forward(self, frames: Tensor) -> Tensor:
        weight = self.weight if self.scale == 1 else self.weight / self.scale
        convolved: Tensor = self._conv_forward(frames, weight, self.bias)
        return convolved


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        # In place wherever what is overwritten is asked for by no gradient: convolutions do not ask for their outputs.
        change: Tensor = self.second(torch.relu_(self.first(torch.relu(x))))
        return change.add_(x)


def _impala_block(convolution: nn.Conv2d) -> nn.Sequential:
    pool, outputs = nn.MaxPool2d(3, stride=2, padding=1), convolution.out_channels
    return nn.Sequential(convolution, pool, _Residual(outputs), _Residual(outputs))


def _dense(convolution: nn.Module, space: gym.Space[Any], features_dim: int, pooled: bool) -> nn.Sequential:
    assert space.shape is not None
    flat = nn.Sequential(nn.ReLU(inplace=True), *([nn.AdaptiveAvgPool2d(1)] if pooled else []), nn.Flatten())
    with torch.no_grad():
        width = flat(convolution(torch.zeros(1, *space.shape))).shape[1]
    return nn.Sequential(*flat, nn.Linear(width, features_dim), nn.ReLU(inplace=True))


class FrameExtractor(BaseFeaturesExtractor):
    """Convolutions, then one dense layer, on frames ``[B, C, H, W]`` in [0, ``scale``], best channels-last in memory.

    ``pooled`` gives the dense layer the mean of each channel instead of all its pixels. ``precision`` is that of all
    but weights and features.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        features_dim: int,
        convolution: nn.Module,
        pooled: bool,
        precision: Precision,
    ) -> None:
        super().__init__(observation_space, features_dim)
        self.precision = precision
        # channels_last pays on both CPU and GPU for convolutions this narrow.
        self.convolution = convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.dense = _dense(convolution, observation_space, features_dim, pooled)

    def forward(self, observations: Tensor) -> Tensor:
        """Features ``[B, features_dim]``."""
        frames = observations.contiguous(memory_format=torch.channels_last)
        if self.precision == "32-true":
            return self._features(frames)
        with torch.autocast(frames.device.type, torch.bfloat16):
            return self._features(frames).float()

    def _features(self, frames: Tensor) -> Tensor:
        features: Tensor = self.dense(self.convolution(frames))
        return features


class ImpalaCNN(FrameExtractor):
    """The residual network of IMPALA (Espeholt et al. 2018, figure 3) as Procgen's authors use it.

    Args:
        observation_space: Channel-first frames.
        features_dim: Width of the dense layer; 256 in Cobbe et al. 2020.
        channels: Channels of the three blocks; 16, 32, 32 there.
        pooled: See :func:`policy_kwargs`.
        scale: What frames are divided by: 255 where they come as they are stored (``normalize_images=False``).
        precision: See :func:`policy_kwargs`.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        features_dim: int = 256,
        channels: tuple[int, ...] = (16, 32, 32),
        pooled: bool = False,
        scale: float = 1.0,
        precision: Precision = "32-true",
    ) -> None:
        assert observation_space.shape is not None
        convolutions = [
            _FirstConvolution(scale, observation_space.shape[0], channels[0], 3, padding=1),
            *(nn.Conv2d(inputs, outputs, 3, padding=1) for inputs, outputs in itertools.pairwise(channels)),
        ]
        blocks = nn.Sequential(*map(_impala_block, convolutions))
        super().__init__(observation_space, features_dim, blocks, pooled, precision)


class SmallCNN(FrameExtractor):
    """Three strided convolutions: about twenty times IMPALA's speed on a CPU, for laptops and tests.

    Args:
        observation_space: Channel-first frames.
        features_dim: Width of the dense layer.
        channels: Channels of the three convolutions.
        pooled: See :func:`policy_kwargs`.
        scale: As in :class:`ImpalaCNN`.
        precision: See :func:`policy_kwargs`.
    """

    def __init__(
        self,
        observation_space: gym.Space[Any],
        features_dim: int = 128,
        channels: tuple[int, int, int] = (16, 32, 32),
        pooled: bool = False,
        scale: float = 1.0,
        precision: Precision = "32-true",
    ) -> None:
        assert observation_space.shape is not None
        first, second, third = channels
        convolution = nn.Sequential(
            _FirstConvolution(scale, observation_space.shape[0], first, 8, stride=4, padding=2),
            nn.ReLU(inplace=True),
            nn.Conv2d(first, second, 4, stride=2, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(second, third, 3, stride=2, padding=1),
        )
        super().__init__(observation_space, features_dim, convolution, pooled, precision)


class FusedAdam(torch.optim.Adam):
    """Adam in one kernel, with Stable-Baselines3's ε."""

    def __init__(self, params: Any, lr: float = 1e-3, eps: float = 1e-5, **options: Any) -> None:
        super().__init__(params, lr, eps=eps, **options, fused=True)


EXTRACTORS: dict[str, type[FrameExtractor]] = {"impala": ImpalaCNN, "small": SmallCNN}


def policy_kwargs(
    extractor: str = "small", features_dim: int = 256, pooled: bool = False, precision: Precision = "32-true"
) -> dict[str, Any]:
    """``policy_kwargs`` for Stable-Baselines3: the extractor, and nothing between it and the heads.

    Frames reach the extractor as they are stored; in an update :class:`kdrl.DistilledPPO` keeps them channels-last.

    Args:
        extractor: A name in :data:`EXTRACTORS`.
        features_dim: Width of its dense layer.
        pooled: Whether that is given each channel's mean over the frame instead of all its pixels, which takes most of
            its weights away (Impoola, https://arxiv.org/abs/2503.05546).
        precision: ``bf16-mixed`` computes the extractor in bfloat16, for GPUs.

    Raises:
        InputError: unknown extractor, or a width below one.
    """
    choice(extractor, EXTRACTORS, "network.extractor")
    if features_dim < 1:
        raise InputError(f"network.features_dim={features_dim} must be at least 1")
    return {
        "features_extractor_class": EXTRACTORS[extractor],
        "features_extractor_kwargs": {
            "features_dim": features_dim,
            "pooled": pooled,
            "scale": 255.0,
            "precision": precision,
        },
        "normalize_images": False,
        "optimizer_class": FusedAdam,
        # Procgen's protocol: linear heads on the extractor; the default would add two tanh layers.
        "net_arch": [],
        "ortho_init": False,
    }
