"""Distorted looks at a batch of frames: other light and colour, or shifted by some pixels.

Frames are ``[B, C, H, W]``, ``uint8`` or normalised floats. Random numbers are torch's own, so a seed decides them.
"""

from typing import Literal

import torch
from torch import Tensor

Augmentation = Literal["crop", "color", "both"]


def _check(name: str, frames: Tensor) -> None:
    if frames.dim() != 4:
        raise ValueError(f"{name} needs frames [B, C, H, W], got {tuple(frames.shape)}")


def _uniform(like: Tensor, channels: int, half_width: float) -> Tensor:
    """Numbers in ``[−half_width, half_width]``, ``[B, channels, 1, 1]``."""
    draw = torch.rand(len(like), channels, 1, 1, device=like.device, dtype=like.dtype)
    return half_width * (2 * draw - 1)


def photometric(frames: Tensor, brightness: float, contrast: float, noise: float, each_channel: bool = False) -> Tensor:
    """``m + (1 + u)(x − m) + v s + w s n``: contrast, brightness and noise of each frame, pixel by pixel.

    m and s are the frame's own mean and standard deviation, so that the strengths mean the same for
    ``uint8`` and for normalised frames; n is standard normal noise.

    Args:
        frames: ``[B, C, H, W]``.
        brightness: v is uniform in ±brightness.
        contrast: u is uniform in ±contrast.
        noise: w, the noise's size.
        each_channel: Draw u and v for every channel by itself, which changes colours.

    Returns:
        Frames of the same shape and dtype; ``uint8`` is rounded and kept in 0 .. 255, floats are not
        clipped, since normalised images have no known range.

    Raises:
        ValueError: not frames ``[B, C, H, W]``.
    """
    _check("photometric", frames)
    x = frames if frames.is_floating_point() else frames.float()
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    scale = x.std(dim=(1, 2, 3), keepdim=True, correction=0)
    channels = frames.shape[1] if each_channel else 1
    gain, offset = 1 + _uniform(x, channels, contrast), _uniform(x, channels, brightness)
    distorted = mean + gain * (x - mean) + offset * scale
    if noise > 0:
        distorted = distorted + noise * scale * torch.randn_like(x)
    return distorted if frames.is_floating_point() else distorted.round().clamp(0, 255).to(frames.dtype)


def translate(frames: Tensor, pixels: int) -> Tensor:
    """Each frame shifted by up to ``pixels`` along both axes, its edge repeated.

    The same as padding by replication and cropping at random, without the padded copy.

    Args:
        frames: ``[B, C, H, W]``, any dtype.
        pixels: The largest shift, along each axis by itself.

    Raises:
        ValueError: not frames ``[B, C, H, W]``.
    """
    _check("translate", frames)
    batch, channels, height, width = frames.shape
    device = frames.device
    down, right = torch.randint(-pixels, pixels + 1, (2, batch, 1), device=device)
    row = (torch.arange(height, device=device) + down).clamp(0, height - 1)
    column = (torch.arange(width, device=device) + right).clamp(0, width - 1)
    sample = torch.arange(batch, device=device)[:, None, None, None]
    channel = torch.arange(channels, device=device)[None, :, None, None]
    return frames[sample, channel, row[:, None, :, None], column[:, None, None, :]]


def strong(frames: Tensor, augmentation: Augmentation, pixels: int, strength: float) -> Tensor:
    """A strong augmentation of frames: shifted (``crop``), recoloured (``color``), or first one and then the other.

    Args:
        frames: ``[B, C, H, W]``.
        augmentation: Which.
        pixels: The largest shift, along each axis.
        strength: The largest change of contrast, and of brightness in standard deviations, of each channel by itself.
    """
    if augmentation != "color":
        frames = translate(frames, pixels)
    if augmentation != "crop":
        frames = photometric(frames, strength, strength, 0.0, each_channel=True)
    return frames
