"""The optimiser: how its rate changes over training, and what of it the encoder gets.

The rate of a step depends on nothing but the part of training that is done, so that a resumed run needs no scheduler's
state. The shapes are those of torch's schedulers of the same names.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import nn

from common.arguments import NotNegative, Share, checked_fields
from common.errors import InputError

Optimizer = Callable[[Iterable[nn.Parameter] | Iterable[dict[str, list[nn.Parameter]]]], torch.optim.Optimizer]
Shape = Literal["constant", "cosine", "poly", "one_cycle"]

_POWER = 0.9  # of poly, as in Chen et al. 2017, "DeepLab", https://arxiv.org/abs/1606.00915
_FIRST, _LAST = 1 / 25, 1 / 25e4  # of one_cycle, as in torch
_RISE = 0.3  # the part of one_cycle over which it rises, as in torch
_INITIAL = "initial_lr"  # where torch's own schedulers keep it too


def adamw(parameters: Any) -> torch.optim.Optimizer:
    """The optimiser where none is given."""
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=1e-4)


@checked_fields
@dataclasses.dataclass(frozen=True)
class LearningRate:
    """A factor for the optimiser's rate, step by step.

    Attributes:
        shape: ``constant``; ``cosine``, half a wave down to 0; ``poly``, (1 − t)^0.9; ``one_cycle`` (Smith and Topin
            2017, https://arxiv.org/abs/1708.07120), a cosine up from 1/25 and down to 4e-6, momentum left alone.
        warmup: Part of training over which the rate rises first, in a line from 0; of ``one_cycle`` the part over which
            it rises at all. ``None`` is 0, and 0.3 for ``one_cycle``.
        encoder: Factor for the encoder's parameters: below 1 keeps pretrained weights longer, 0 as they are.

    Raises:
        InputError: a value outside its range.
    """

    shape: Shape = "constant"
    warmup: Share | None = None
    encoder: NotNegative = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether the optimiser's rate is simply that of every parameter at every step."""
        return self.shape == "constant" and not self.warmup and self.encoder == 1.0

    def factor(self, progress: float) -> float:
        """Of the step before which ``progress``, in [0, 1), of training is done.

        >>> LearningRate("cosine").factor(0.5)
        0.5
        >>> LearningRate("poly", warmup=0.1).factor(0.05)
        0.5
        """
        if self.shape == "one_cycle":
            rise = _RISE if self.warmup is None else self.warmup
            if progress < rise:
                return _wave(_FIRST, 1.0, progress / rise)
            return _wave(1.0, _LAST, (progress - rise) / (1 - rise))
        warmup = self.warmup or 0.0
        if progress < warmup:
            return progress / warmup
        done = (progress - warmup) / (1 - warmup)
        if self.shape == "cosine":
            return _wave(1.0, 0.0, done)
        return (1 - done) ** _POWER if self.shape == "poly" else 1.0

    def groups(self, network: nn.Module, others: Iterable[nn.Parameter]) -> list[dict[str, list[nn.Parameter]]]:
        """Parameters for an optimiser: all but the encoder's, then the encoder's.

        Raises:
            InputError: a network without an encoder.
        """
        if not isinstance(getattr(network.model, "encoder", None), nn.Module):
            raise InputError(
                f"learning_rate.encoder={self.encoder}: {type(network.model).__name__} has no encoder; use 1"
            )
        encoder = list(network.model.encoder.parameters())  # type: ignore[union-attr,operator]
        inside = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in network.parameters() if id(parameter) not in inside]
        return [{"params": [*rest, *others]}, {"params": encoder}]

    def begin(self, optimizer: torch.optim.Optimizer) -> None:
        """Remember the rates that an optimiser of :meth:`groups` was made with."""
        for group, part in zip(optimizer.param_groups, (1.0, self.encoder), strict=False):
            group[_INITIAL] = group["lr"] * part

    def apply(self, optimizer: torch.optim.Optimizer | LightningOptimizer, progress: float) -> None:
        """Set the rates of the next step."""
        for group in optimizer.param_groups:
            group["lr"] = group[_INITIAL] * self.factor(progress)


def _wave(start: float, end: float, done: float) -> float:
    """Half a cosine wave from ``start`` to ``end``."""
    return end + (start - end) * (1 + math.cos(math.pi * done)) / 2
