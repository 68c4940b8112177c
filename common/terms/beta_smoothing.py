"""Beta smoothing: label smoothing whose strength follows the network's confidence.

Zhang, Sabuncu: Self-Distillation as Instance-Specific Label Smoothing, NeurIPS 2020 (arXiv 2006.05065),
section 6, and the authors' code.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from common.arguments import Count, Positive, Share, UpToOne
from common.errors import InputError
from common.frozen import FrozenCopy
from common.losses import full_precision, mean_over_valid
from common.positions import draw_positions, rows
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def rank_matched_beta(confidence: Tensor, drawn: Tensor, shape: float) -> Tensor:
    """Beta(shape, 1) numbers in the order of ``confidence``: the most confident gets the largest.

    Args:
        confidence: ``[n]``.
        drawn: ``int64 [m]``: the entries among which the order is taken; each of the others gets the number of
            the nearest of these above it. Equal confidences share their numbers out at random.
        shape: a of Beta(a, 1), the law of ``U^(1/a)``.

    Returns:
        ``[n]`` in [0, 1].
    """
    known = confidence[drawn].sort().values
    numbers = torch.rand_like(known).pow(1.0 / shape).sort().values
    below = torch.searchsorted(known, confidence)
    tied = torch.searchsorted(known, confidence, right=True) - below
    rank = below + (torch.rand_like(confidence) * tied).long()
    return numbers[rank.clamp(max=len(known) - 1)]


def smoothing_gain(logits: Tensor, labels: Tensor, kept: Tensor) -> Tensor:
    """``CE(soft) − CE(hard)`` per position, where the soft label keeps ``kept`` at the label and shares out the rest.

    ``CE(soft) − CE(hard) = (1 − b)(z_y − mean of the other z)``: the softmax's normaliser cancels.

    Args:
        logits: z ``[B, C, *]``, C at least 2.
        labels: y ``int64 [B, *]``.
        kept: b ``[B, *]``.
    """
    z = full_precision(logits)
    label = z.gather(1, labels.unsqueeze(1)).squeeze(1)
    others = (z.sum(dim=1) - label) / (logits.shape[1] - 1)
    return (1.0 - kept) * (label - others)


class BetaSmoothing(Term):
    """``α · [CE(b · onehot + (1 − b)/(C − 1) · rest) − CE(onehot)]`` with b of each position by its own confidence.

    Added to the task's cross-entropy at weight 1 this is the paper's ``(1 − α) CE + α CE(soft label)``,
    exactly. Each minibatch draws its b from Beta(a, 1), sorts them, and gives the largest to the position
    where a moving average (EMA) of the network is most confident of the label.

    As in the authors' code the average's decay grows as ``1 − 1/(step + 1)`` up to ``decay``. Deviations: the
    average is in eval mode and includes batch statistics (theirs runs in train mode); on maps all valid
    pixels of the minibatch are ordered together (ours), the order taken among at most ``positions`` of them.

    Args:
        weight: Leave it at 1; other values scale the deviation from plain cross-entropy.
        alpha: α in (0, 1]; the paper's code has 0.6.
        shape: a of Beta(a, 1), positive; 3 there.
        decay: Of the average, in [0, 1); 0.999 there.
        positions: The most positions that are sorted, at least 1.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    analogue: ClassVar[str] = "without labels the entropy bonus, ppo.ent_coef, is its analogue"
    steps: Tensor
    average: FrozenCopy

    def __init__(
        self,
        weight: Weight = 1.0,
        alpha: UpToOne = 0.6,
        shape: Positive = 3.0,
        decay: Share = 0.999,
        positions: Count = 65536,
    ) -> None:
        super().__init__(weight)
        self.alpha, self.shape, self.decay, self.positions = alpha, shape, decay, positions
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def bind(self, network: nn.Module, view: View) -> None:
        """Start the average at the network as it is."""
        if view.logits.shape[1] < 2:
            raise InputError("beta smoothing needs at least 2 classes")
        self.average = FrozenCopy(network)

    def after_step(self, network: nn.Module, progress: float) -> None:
        """Move the average."""
        self.steps += 1
        self.average.follow(network, min(1.0 - 1.0 / (int(self.steps) + 1), self.decay))

    def forward(self, view: View) -> TermOutput:
        """Per-position loss, which may be negative; logs the mean b and the average's confidence of the label."""
        labels = view.labels()
        with torch.no_grad():
            probabilities = full_precision(self.average(view.inputs)).softmax(dim=1)
            confidence = probabilities.gather(1, labels.unsqueeze(1)).squeeze(1)
            kept = self._kept(confidence, view.valid)
        logits = view.logits if view.valid is None else view.logits.masked_fill(~view.valid.unsqueeze(1), 0.0)
        loss = self.alpha * smoothing_gain(logits, labels, kept)
        loss = loss if view.valid is None else loss.masked_fill(~view.valid, 0.0)
        if not view.log:
            return TermOutput(loss)
        metrics = {
            "kept": mean_over_valid(kept, view.valid),
            "confidence": mean_over_valid(confidence, view.valid),
        }
        return TermOutput(loss, metrics)

    def _kept(self, confidence: Tensor, valid: Tensor | None) -> Tensor:
        """What the label keeps at every position, 1 where not valid."""
        kept = torch.ones_like(confidence)
        inside = draw_positions(confidence.unsqueeze(1), valid, confidence.numel())
        if len(inside) == 0:
            return kept
        certain = rows(confidence.unsqueeze(1), inside)[:, 0]
        drawn = draw_positions(certain.unsqueeze(1), None, self.positions)
        kept.view(-1)[inside] = rank_matched_beta(certain, drawn, self.shape)
        return kept
