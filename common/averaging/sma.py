"""Simple moving average (SMA) of the weights: Arpit et al., Ensemble of Averages, 2022 (arXiv 2110.10832)."""

import copy
import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from common.arguments import Share
from common.averaging.base import Averager, Buffers


class SMA(Averager):
    """``θ̄_t = 1/(t − t₀ + 1) · Σ_{k = t₀..t} θ_k``, and of the θ̄_t that were validated the best is kept.

    Validated is the *averaged* network, on source domains; :meth:`finish` gives the one with the lowest loss, the
    earliest of equals. Never validated since the start, it gives the latest average. Keeps two copies of
    the weights, the average and the best.

    Ours: t₀ is a part of training (the authors start at iteration 100 of 5,000), and the loss selects, not the
    accuracy. With ``buffers="reestimate"`` re-estimate the network that :meth:`to_validate` gives, in place, before
    validating it: the best is kept with those statistics.

    Args:
        start: t₀ / N, in [0, 1).
        buffers: See :class:`Averager`.
        name: See :class:`Averager`.

    Raises:
        InputError: a value outside its range.
    """

    needs_validation: ClassVar[bool] = True

    def __init__(self, start: Share = 0.02, buffers: Buffers = "reestimate", name: str = "sma") -> None:
        super().__init__(start, buffers, name)
        self.best: nn.Module | None = None
        self.best_loss = math.inf

    def bind(self, model: nn.Module) -> None:
        """Copy the network, for the average and for the best one."""
        super().bind(model)
        self.best = copy.deepcopy(self.averaged)
        self.best_loss = math.inf

    def to_validate(self, model: nn.Module) -> nn.Module | None:
        """The current average, once there is one."""
        return self.averaged if self._iterates() else None

    @torch.no_grad()
    def after_validation(self, model: nn.Module, loss: float, progress: float) -> None:
        """Keep the current average if its loss is the lowest so far; ignored while nothing is averaged."""
        if self._iterates() == 0:
            return
        super().after_validation(model, loss, progress)
        if loss < self.best_loss:
            assert self.best is not None
            self.best_loss = loss
            torch._foreach_copy_(_tensors(self.best), _tensors(self.averaged))

    def _result(self) -> nn.Module:
        return self.averaged if self.best is None or math.isinf(self.best_loss) else self.best

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` keeps beside the tensors."""
        return {"best_loss": self.best_loss}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_extra_state` gave."""
        self.best_loss = float(state["best_loss"])


def _tensors(network: nn.Module) -> list[Tensor]:
    return [*network.parameters(), *network.buffers()]
