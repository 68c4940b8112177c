"""Attacks on the input, bounded in every value of it: how much a prediction changes where a person sees no change.

- ``fgsm``: one step of the whole radius along the gradient's sign. Goodfellow, Shlens, Szegedy 2015 (arXiv 1412.6572).
- ``pgd``: many smaller ones from a random start, projected back. Madry et al. 2018 (arXiv 1706.06083).
- ``segpgd``: of maps; first mostly the loss where the prediction is still right, towards the end mostly where it is
  wrong already: weights 1 − λ and λ with λ = (t − 1) / 2T in step t of T. Gu et al. 2022 (arXiv 2207.12391), eq. 5.

Inputs are in their own range, before any normalisation. The attacker keeps, for each input, the worst it has found,
also at smaller radii, whose results are allowed at larger ones: so that the number of right positions never rises with
the radius, as it may with a single step (ours).
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Attack = Literal["fgsm", "pgd", "segpgd"]
Logits = Callable[[Tensor], Tensor]

_STRETCH = 2.5
"""Steps of an attack together could go so many radii: the far side of the ball can be reached from any start."""


@dataclasses.dataclass(frozen=True)
class Attacker:
    """An attack and its strength.

    Args:
        kind: Which.
        steps: Of ``pgd`` and ``segpgd``.
        restarts: Random starts of those.
        low: The smallest value of an input.
        high: The largest.
        seed: Of the starts.
    """

    kind: Attack = "pgd"
    steps: int = 10
    restarts: int = 1
    low: float = 0.0
    high: float = 1.0
    seed: int = 0

    def sweep(
        self, logits: Logits, inputs: Tensor, labels: Tensor, valid: Tensor | None, radii: Sequence[float]
    ) -> Iterator[tuple[float, Tensor]]:
        """Attack at one radius after the other, the smallest first.

        Args:
            logits: From inputs to ``[B, C, *]``; no parameter is changed.
            inputs: ``[B, *]`` in [low, high].
            labels: ``int64 [B, *]``; what is to be missed.
            valid: ``bool [B, *]``, or ``None`` for all positions.
            radii: Largest change of any value, in the input's own unit; 0 for none.

        Yields:
            Each radius with the worst inputs found, within it.
        """
        everywhere = torch.ones_like(labels, dtype=torch.bool) if valid is None else valid
        target = labels.masked_fill(~everywhere, 0)
        generator = torch.Generator(inputs.device).manual_seed(self.seed)
        worst = inputs.detach()
        with torch.no_grad():
            fewest = _right(logits(worst), target, everywhere)
        for radius in sorted(radii):
            for changed in self._tries(logits, inputs, worst, target, everywhere, radius, generator):
                with torch.no_grad():
                    right = _right(logits(changed), target, everywhere)
                better = right < fewest
                worst = torch.where(better.view(-1, *[1] * (inputs.ndim - 1)), changed, worst)
                fewest = torch.where(better, right, fewest)
            yield radius, worst

    def _tries(
        self,
        logits: Logits,
        inputs: Tensor,
        worst: Tensor,
        labels: Tensor,
        valid: Tensor,
        radius: float,
        generator: torch.Generator,
    ) -> Iterator[Tensor]:
        if radius == 0:
            return
        lowest, highest = (inputs - radius).clamp(min=self.low), (inputs + radius).clamp(max=self.high)
        if self.kind == "fgsm":
            yield _step(logits, inputs, labels, valid, radius, (lowest, highest), (1.0, 1.0))
            return
        for restart in range(self.restarts):
            noise = torch.empty_like(inputs).uniform_(-radius, radius, generator=generator)
            # The first begins where a smaller radius ended.
            start = worst if restart == 0 and not torch.equal(worst, inputs) else inputs + noise
            changed = torch.maximum(torch.minimum(start, highest), lowest)
            for step in range(self.steps):
                wrong = step / (2 * self.steps)
                weights = (1 - wrong, wrong) if self.kind == "segpgd" else (1.0, 1.0)
                size = _STRETCH * radius / self.steps
                changed = _step(logits, changed, labels, valid, size, (lowest, highest), weights)
            yield changed


def _step(
    logits: Logits,
    inputs: Tensor,
    labels: Tensor,
    valid: Tensor,
    size: float,
    bounds: tuple[Tensor, Tensor],
    weights: tuple[float, float],
) -> Tensor:
    """One step up the loss, its positions weighed by whether they are right or wrong."""
    moved = inputs.detach().requires_grad_()
    with torch.enable_grad():
        answer = logits(moved).float()
        losses = F.cross_entropy(answer, labels, reduction="none")
        weighed = losses * torch.where(answer.argmax(dim=1) == labels, *weights) * valid
        (gradient,) = torch.autograd.grad(weighed.sum(), moved)
    lowest, highest = bounds
    return torch.maximum(torch.minimum(moved.detach() + size * gradient.sign(), highest), lowest)


def _right(logits: Tensor, labels: Tensor, valid: Tensor) -> Tensor:
    """How many positions of each input are right: ``[B]``."""
    return ((logits.argmax(dim=1) == labels) & valid).reshape(len(labels), -1).sum(dim=1)
