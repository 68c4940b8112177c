"""How far training travels: the length of the path of the weights, in lengths of the weights it began with.

Cumulative weight distance, Σ_k ‖θ_k − θ_{k−1}‖ / ‖θ_0‖ over the optimiser's steps: the harder what is to be learnt, the
longer the way (as in Cheng et al., Explaining Knowledge Distillation by Quantifying the Knowledge, CVPR 2020, arXiv
2003.03622). KDDG's paper explains itself by two measures that are not available to us; this is ours in their place, as
is :mod:`common.evaluation.information`.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from common.runs.checkpoint import State


class Travel:
    """Measures the path of some weights; reads them only.

    The state, with the weights as they were then, continues an interrupted training bit for bit.
    """

    def __init__(self) -> None:
        self._weights: list[Tensor] = []
        self._before: list[Tensor] = []
        self._length: Tensor | None = None
        self._origin: Tensor | None = None

    @torch.no_grad()
    def follow(self, optimizer: torch.optim.Optimizer, weights: Iterable[nn.Parameter]) -> None:
        """Measure from now on, after every step of an optimiser.

        Args:
            optimizer: Of the weights, and perhaps of others.
            weights: Those that are measured.
        """
        self._weights = [weight for weight in weights if weight.requires_grad]
        self._before = [weight.detach().clone() for weight in self._weights]
        if self._origin is None:
            self._origin = get_total_norm(self._before)
            self._length = torch.zeros_like(self._origin)
        optimizer.register_step_post_hook(self._after_step)

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        assert self._length is not None
        now = [weight.detach() for weight in self._weights]
        self._length = self._length.to(now[0].device) + get_total_norm(torch._foreach_sub(now, self._before))
        torch._foreach_copy_(self._before, now)

    @property
    def distance(self) -> float | None:
        """The path so far, ``None`` where nothing was followed or began with nothing but zeros."""
        if self._length is None or self._origin is None or not float(self._origin):
            return None
        return float(self._length) / float(self._origin)

    def state(self) -> State:
        """To go on from; empty before anything was followed."""
        return {} if self._length is None else {"length": self._length.clone(), "origin": self._origin}

    def load(self, state: State) -> None:
        """Take back what :meth:`state` gave, before the weights are followed again."""
        self._length, self._origin = state.get("length"), state.get("origin")
