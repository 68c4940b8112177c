"""Calibration of class probabilities: does a prediction made with 80 % confidence come true in 80 % of the cases?

Everything is computed from counters that *add up*, those of batches, images or runs: a stream needs no memory of its
predictions. One table ``[..., bins, 3]`` has, of the positions whose confidence (the largest probability) falls into a
bin, their number, the sum of their confidences and how many of them were right. A second one has bins of equal width in
the logarithm of 1 − confidence, fine enough to be merged into bins of nearly equal mass: of pixels, most confidences
lie so close to 1 that the last bin of equal width holds nearly all.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599), sections 2 and
4.2; Nixon et al.: Measuring Calibration in Deep Learning, 2019 (arXiv 1904.01685), for bins of equal mass; Brier 1950.
"""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from common.evaluation.reliability import BINS, Floats, expected_calibration_error, of_equal_mass
from common.losses import full_precision

FINE, FINE_BINS = 10, 256
"""Fine bins in an octave of 1 − confidence, and their number: the last holds all below 2 ** -25.5."""


@torch.no_grad()
def calibration_counts(logits: Tensor, labels: Tensor, valid: Tensor | None = None, bins: int = BINS) -> Floats:
    """Count the positions of a batch by the confidence of their prediction.

    Bin m of M holds the confidences in ``((m − 1) / M, m / M]``, as in the paper; confidence 1 is in the last
    bin (torchmetrics gives it a bin of its own).

    Args:
        logits: ``[B, C, *]``.
        labels: ``int64 [B, *]``, any class where not valid.
        valid: ``bool [B, *]``, or ``None`` for all positions.
        bins: Number of bins of equal width, at least 1.

    Returns:
        ``float64 [bins, 3]``: positions, sum of confidences, right predictions. Add the tables of batches.

    Raises:
        ValueError: shapes that do not belong together, or no bin.

    >>> calibration_counts(torch.tensor([[0.0, 2.0], [0.0, 0.0]]), torch.tensor([1, 1]), bins=2).round(2).tolist()
    [[1.0, 0.5, 0.0], [1.0, 0.88, 1.0]]
    """
    if bins < 1:
        raise ValueError(f"bins={bins} must be at least 1")
    _check_shapes(logits, labels, valid)
    confidence, prediction = full_precision(logits).softmax(dim=1).max(dim=1)
    right = prediction == labels
    if valid is not None:
        confidence, right = confidence[valid], right[valid]
    return _table(_bins_of_equal_width(confidence.flatten().double(), bins), confidence, right, bins)


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Counters of a stream of positions.

    Attributes:
        table: ``float64 [BINS, 3]``, bins of equal width, as :func:`calibration_counts`.
        fine: ``float64 [FINE_BINS, 3]``, of equal width in log (1 − confidence).
        sums: ``float64 [3]``: positions, sum of negative log-likelihoods (nats), sum of Brier scores.
    """

    table: Floats = dataclasses.field(default_factory=lambda: np.zeros((BINS, 3)))
    fine: Floats = dataclasses.field(default_factory=lambda: np.zeros((FINE_BINS, 3)))
    sums: Floats = dataclasses.field(default_factory=lambda: np.zeros(3))

    def __add__(self, other: "Calibration") -> "Calibration":
        return Calibration(self.table + other.table, self.fine + other.fine, self.sums + other.sums)

    def scores(self) -> dict[str, float]:
        """``ece``, ``ece_equal_mass`` and ``brier`` in [0, 1] or [0, 2], ``nll`` in nats; none without a position."""
        count, likelihood, brier = self.sums.tolist()
        if not count:
            return {}
        return {
            "ece": float(expected_calibration_error(self.table)),
            "ece_equal_mass": float(expected_calibration_error(of_equal_mass(self.fine))),
            "nll": likelihood / count,
            "brier": brier / count,
        }


@torch.no_grad()
def measure_calibration(
    logits: Tensor, labels: Tensor, valid: Tensor | None = None, temperature: float = 1.0
) -> Calibration:
    """Count the positions of a batch.

    Args:
        logits: ``[B, C, *]``.
        labels: ``int64 [B, *]``, any class where not valid.
        valid: ``bool [B, *]``, or ``None`` for all positions.
        temperature: Logits are divided by it.

    Raises:
        ValueError: shapes that do not belong together.
    """
    _check_shapes(logits, labels, valid)
    rows = full_precision(logits).movedim(1, -1).flatten(0, -2) / temperature
    truth = labels.flatten()
    if valid is not None:
        kept = valid.flatten()
        rows, truth = rows[kept], truth[kept]
    likely = rows.log_softmax(dim=1)
    best, prediction = likely.max(dim=1)
    probabilities = likely.exp()
    confidence = best.exp()
    own = likely.gather(1, truth[:, None]).squeeze(1)
    brier = probabilities.square().sum(dim=1) - 2 * own.exp() + 1
    sums = [float(len(rows)), -float(own.double().sum()), float(brier.double().sum())]
    certain = confidence.double()
    octave = (FINE * -torch.log2(-torch.expm1(best.double()))).nan_to_num(0, FINE_BINS, 0)
    right = prediction == truth
    return Calibration(
        _table(_bins_of_equal_width(certain, BINS), certain, right, BINS),
        _table(octave.clamp(0, FINE_BINS - 1).long(), certain, right, FINE_BINS),
        np.array(sums),
    )


def _check_shapes(logits: Tensor, labels: Tensor, valid: Tensor | None) -> None:
    positions = logits.shape[:1] + logits.shape[2:]
    for name, tensor in (("labels", labels), ("valid", valid)):
        if tensor is not None and tensor.shape != positions:
            raise ValueError(f"{name} must be {tuple(positions)} for these logits, got {tuple(tensor.shape)}")


def _bins_of_equal_width(confidence: Tensor, bins: int) -> Tensor:
    # Edges as rounded by the division, not by repeated addition: a confidence of exactly m / M is in bin m.
    edges = torch.from_numpy(np.arange(1, bins) / bins).to(confidence.device)
    return torch.bucketize(confidence, edges)


def _table(number: Tensor, confidence: Tensor, right: Tensor, bins: int) -> Floats:
    """Positions, confidences and right ones of each bin, ``[bins, 3]``."""
    certain, hits = confidence.flatten().double(), right.flatten().double()
    columns = [torch.bincount(number, weights, minlength=bins) for weights in (None, certain, hits)]
    return torch.stack([column.double() for column in columns], dim=-1).cpu().numpy()
