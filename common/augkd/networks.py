"""The networks of AuG-KD: a generator of what a teacher knows, an encoder into its latents, and the anchor.

Latents are ``[B, L]``, or where predictions are label maps ``[B, L, h, w]``, a latent for every cell of 2³ × 2³ pixels:
one vector could not say where things are. Widths and depths are ours (the paper's are for images of 32 × 32 pixels).
"""

import dataclasses
import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SLOPE = 0.2


@dataclasses.dataclass(frozen=True)
class Layout:
    """What teacher and student are given and what they answer.

    Attributes:
        classes: C.
        channels: Of an input ``[B, channels, H, W]``.
        size: H and W; where predictions are label maps, those of training, and other sizes will do as well.
        dense: Whether predictions are label maps ``[B, C, H, W]``, and not ``[B, C]``.
        low: What is black in each channel: the lowest value of an input.
        high: What is white.
    """

    classes: int
    channels: int
    size: tuple[int, int]
    dense: bool
    low: tuple[float, ...]
    high: tuple[float, ...]

    @property
    def levels(self) -> int:
        """How often sides are halved on the way to the latents."""
        return 3 if self.dense or min(self.size) >= 32 else 2

    def coarse(self, size: tuple[int, int]) -> tuple[int, int]:
        """Sides of the coarsest map of inputs of ``size``."""
        height, width = (-(-side // 2**self.levels) for side in size)
        return height, width

    def one_hot(self, labels: Tensor, valid: Tensor | None = None) -> Tensor:
        """``float [B, C, *]`` of labels ``int64 [B, *]``; all zero where a position is not valid."""
        counted = labels if valid is None else labels.masked_fill(~valid, 0)
        hot = F.one_hot(counted, self.classes).movedim(-1, 1).float()
        return hot if valid is None else hot * valid[:, None]


class _Bounded(nn.Module):
    """A network that knows the bounds of inputs."""

    low: Tensor
    span: Tensor

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        low, high = (torch.tensor(bound).view(-1, 1, 1) for bound in (layout.low, layout.high))
        self.register_buffer("low", low)
        self.register_buffer("span", high - low)


class Generator(_Bounded):
    """From latents, and the one-hot label maps where predictions are such, to inputs within their bounds.

    Args:
        layout: What it generates.
        latent: L.
        width: Channels of the finest maps; twice and four times as many on coarser ones.
    """

    def __init__(self, layout: Layout, latent: int, width: int) -> None:
        super().__init__(layout)
        widths = [width * 2 ** min(level, 2) for level in range(layout.levels, 0, -1)]
        extra = layout.classes if layout.dense else 0
        height, across = layout.coarse(layout.size)
        self.project: nn.Module = (
            nn.Conv2d(latent + extra, widths[0], 3, padding=1)
            if layout.dense
            else nn.Sequential(nn.Linear(latent, widths[0] * height * across), nn.Unflatten(1, (-1, height, across)))
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(before + extra, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.LeakyReLU(_SLOPE)
            )
            for before, after in zip(widths, [*widths[1:], width], strict=True)
        )
        self.last = nn.Conv2d(width, layout.channels, 3, padding=1)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Inputs ``[B, channels, H, W]``.

        Args:
            latents: ``[B, L]``, or ``[B, L, h, w]``.
            labels: One-hot ``[B, C, H, W]`` for label maps, else not asked.
        """
        if self.layout.dense:
            assert labels is not None
            size = (labels.shape[2], labels.shape[3])
            latents = torch.cat([latents, _pooled(labels, latents.shape[2], latents.shape[3])], dim=1)
        else:
            size = self.layout.size
        maps = self.project(latents)
        for level, block in zip(range(self.layout.levels - 1, -1, -1), self.blocks, strict=True):
            sides = [-(-side // 2**level) for side in size]
            maps = F.interpolate(maps, size=sides, mode="bilinear", align_corners=False)
            if self.layout.dense:
                assert labels is not None
                maps = torch.cat([maps, _pooled(labels, *sides)], dim=1)
            maps = block(maps)
        return self.low + self.span * torch.sigmoid(self.last(maps))


class Encoded(NamedTuple):
    """The latents that may stand for inputs: mean and log variance, ``[B, L, *]`` each."""

    mean: Tensor
    log_variance: Tensor

    def sample(self) -> Tensor:
        """A latent of this distribution, with its graph."""
        return self.mean + torch.randn_like(self.mean) * (0.5 * self.log_variance).exp()


class Encoder(_Bounded):
    """From inputs and one-hot labels to latents.

    Normalised by groups: its inputs are generated ones in the first stage and real ones later, and statistics over
    batches of the former would be wrong for the latter.

    Args:
        layout: What it is given.
        latent: L.
        width: Channels of the finest maps.
    """

    def __init__(self, layout: Layout, latent: int, width: int) -> None:
        super().__init__(layout)
        self.latent = latent
        widths = [layout.channels + (layout.classes if layout.dense else 0)]
        widths += [width * 2 ** min(level, 2) for level in range(layout.levels)]
        self.blocks = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 4, stride=2, padding=1),
                    nn.GroupNorm(math.gcd(after, 8), after),
                    nn.LeakyReLU(_SLOPE),
                )
                for before, after in itertools.pairwise(widths)
            )
        )
        height, across = layout.coarse(layout.size)
        self.head: nn.Module = (
            nn.Conv2d(widths[-1], 2 * latent, 1)
            if layout.dense
            else nn.Linear(widths[-1] * height * across + layout.classes, 2 * latent)
        )

    def forward(self, inputs: Tensor, labels: Tensor) -> Encoded:
        """Where in the latent space inputs ``[B, channels, H, W]`` with one-hot labels ``[B, C, *]`` are."""
        maps = (inputs - self.low) / self.span - 0.5
        if self.layout.dense:
            maps = torch.cat([maps, labels], dim=1)
        height, width = (2**self.layout.levels * side for side in self.layout.coarse((maps.shape[2], maps.shape[3])))
        maps = F.pad(maps, (0, width - maps.shape[3], 0, height - maps.shape[2]))
        maps = self.blocks(maps)
        found = self.head(maps if self.layout.dense else torch.cat([maps.flatten(1), labels], dim=1))
        mean, log_variance = found.chunk(2, dim=1)
        # Bounded, so that no variance overflows.
        return Encoded(mean, log_variance.clamp(-10.0, 10.0))


class Anchor(nn.Module):
    """Carries a latent of the student's domain into the teacher's, as far as its class lets it.

    ``z' = m ⊙ ψ(m ⊙ z) + (1 − m) ⊙ z`` with a mask m in [0, 1] of the class: what m leaves out stays as it is
    (paper, section 3.3). ψ and the mask's network are perceptrons that see one latent, or one cell of a map of latents,
    at a time; ψ is added to its input, so that it begins near the identity (ours: the paper's ψ slides a convolution
    over the latent's dimensions, which have no order). Where predictions are label maps, the class of a cell is the
    share that each class has of its pixels.

    Args:
        classes: C.
        latent: L.
    """

    def __init__(self, classes: int, latent: int) -> None:
        super().__init__()
        self.gate = _perceptron(classes, latent)
        self.change = _perceptron(latent, latent)

    def mask(self, labels: Tensor, like: Tensor) -> Tensor:
        """The mask ``[B, L, *]`` of one-hot labels, on the grid of the latents ``like``."""
        if like.dim() == 4:
            labels = _pooled(labels, like.shape[2], like.shape[3])
        return torch.sigmoid(_each(self.gate, labels))

    def forward(self, latents: Tensor, mask: Tensor) -> Tensor:
        """Anchored latents, of the latents' shape."""
        kept = mask * latents
        return mask * (kept + _each(self.change, kept)) + (1.0 - mask) * latents


def _pooled(labels: Tensor, height: int, width: int) -> Tensor:
    return F.adaptive_avg_pool2d(labels, (height, width))


def _perceptron(before: int, after: int) -> nn.Sequential:
    hidden = 2 * after
    return nn.Sequential(nn.Conv1d(before, hidden, 1), nn.LeakyReLU(_SLOPE), nn.Conv1d(hidden, after, 1))


def _each(network: nn.Module, vectors: Tensor) -> Tensor:
    """The network on every vector of ``[B, D, *]``."""
    answer: Tensor = network(vectors.flatten(2) if vectors.dim() > 2 else vectors[:, :, None])
    return answer.view(len(vectors), -1, *vectors.shape[2:])
