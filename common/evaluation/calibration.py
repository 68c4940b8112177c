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
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.losses import full_precision

BINS = 15
"""The number of bins that papers have used since Guo et al."""
FINE, FINE_BINS = 10, 256
"""Fine bins in an octave of 1 − confidence, and their number: the last holds all below 2 ** -25.5."""

Counts = NDArray[Any]
Floats = NDArray[np.float64]


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


def of_equal_mass(fine: Counts, bins: int = BINS) -> Floats:
    """Merge neighbouring bins into some of nearly equal mass: ``[F, 3]`` → ``[bins, 3]``.

    A fine bin stays whole, and goes where its middle position would go among all, so that a bin that holds more than a
    share of its own is one alone.
    """
    number = np.asarray(fine, dtype=np.float64)[:, 0]
    middle = (np.cumsum(number) - number / 2) / max(number.sum(), 1.0)
    merged = np.zeros((bins, 3))
    np.add.at(merged, (bins * middle).astype(int).clip(0, bins - 1), fine)
    return merged


def expected_calibration_error(counts: Counts) -> Floats:
    """``ECE = Σ_m n_m / n · |accuracy_m − confidence_m|``: ``[..., M, 3]`` → ``[...]``, NaN if there is no position.

    >>> expected_calibration_error(np.array([[2, 1.0, 2], [2, 1.5, 1]])).item()
    0.375
    """
    number, confidence, right = _columns(counts)
    gaps: Floats = np.abs(right - confidence).sum(-1)
    return _divide(gaps, number.sum(-1))


def accuracy(counts: Counts) -> Floats:
    """Share of right predictions: ``[..., M, 3]`` → ``[...]``, NaN if there is no position.

    >>> accuracy(np.array([[2, 1.0, 2], [2, 1.5, 1]])).item()
    0.75
    """
    number, _, right = _columns(counts)
    return _divide(right.sum(-1), number.sum(-1))


def reliability(counts: Counts) -> tuple[Floats, Floats]:
    """Mean confidence and accuracy of each bin, for a reliability diagram: twice ``[..., M]``, NaN in empty bins."""
    number, confidence, right = _columns(counts)
    return _divide(confidence, number), _divide(right, number)


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


def _columns(counts: Counts) -> tuple[Floats, Floats, Floats]:
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim < 2 or table.shape[-1] != 3:
        raise ValueError(f"counts has shape {table.shape}; expected [..., bins, 3]")
    return table[..., 0], table[..., 1], table[..., 2]


def _divide(numerator: Floats, denominator: Floats) -> Floats:
    nothing = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=nothing, where=denominator > 0)
