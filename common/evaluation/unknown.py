"""Does a network know what it does not know? Scores of single inputs or positions, and how well they detect.

Every score is higher the stranger the input is:

- ``max_softmax``: 1 − largest probability. Hendrycks, Gimpel 2017 (arXiv 1610.02136).
- ``entropy``: of the probabilities, nats.
- ``energy``: −log Σ exp z. Liu et al. 2020 (arXiv 2010.03759).
- ``odin``: 1 − largest probability at T = 1000, of an input that was moved a little towards the prediction. Liang, Li,
  Srikant 2018 (arXiv 1706.02690). The step is the paper's .0014 of an input normalised by its deviation; here .0014 of
  the input's own range, and not chosen on anything.

Unknown is the positive class.
"""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from torch import Tensor

from common.losses import full_precision

Floats = NDArray[np.float64]

ODIN_TEMPERATURE, ODIN_STEP = 1000.0, 0.0014
RECALL = 0.95


def max_softmax(logits: Tensor) -> Tensor:
    """``[B, C, *]`` → ``[B, *]`` in [0, 1)."""
    return 1 - full_precision(logits).softmax(dim=1).amax(dim=1)


def entropy(logits: Tensor) -> Tensor:
    """``[B, C, *]`` → ``[B, *]``, nats."""
    likely = full_precision(logits).log_softmax(dim=1)
    return -(likely.exp() * likely).sum(dim=1)


def energy(logits: Tensor) -> Tensor:
    """``[B, C, *]`` → ``[B, *]``."""
    return -full_precision(logits).logsumexp(dim=1)


SCORES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "max_softmax": max_softmax,
    "entropy": entropy,
    "energy": energy,
}
"""Those that need the logits alone."""


def odin(logits: Callable[[Tensor], Tensor], inputs: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """ODIN's score: ``[B, *]`` of the logits' positions.

    Args:
        logits: From inputs in their own range to ``[B, C, *]``.
        inputs: ``[B, *]``.
        low: The smallest value of an input.
        high: The largest.
    """
    moved = inputs.detach().requires_grad_()
    with torch.enable_grad():
        likely = (full_precision(logits(moved)) / ODIN_TEMPERATURE).log_softmax(dim=1).amax(dim=1)
        (gradient,) = torch.autograd.grad(likely.sum(), moved)
    nearer = (moved.detach() + ODIN_STEP * (high - low) * gradient.sign()).clamp(low, high)
    with torch.no_grad():
        return max_softmax(logits(nearer) / ODIN_TEMPERATURE)


def detection(known: ArrayLike, unknown: ArrayLike) -> dict[str, float]:
    """How well a score tells unknown from known.

    Args:
        known: ``[N]``, scores.
        unknown: ``[M]``, scores.

    Returns:
        ``auroc``; ``ap``, the average precision; ``fpr95``, the share of the known that is taken for unknown at a
        threshold that finds 95 % of the unknown. All in [0, 1]; empty where there is nothing of one kind.
    """
    first, second = (np.asarray(values, dtype=np.float64).ravel() for values in (known, unknown))
    if not len(first) or not len(second):
        return {}
    ranks = stats.rankdata(np.concatenate([first, second]))[len(first) :]
    area = (ranks.sum() - len(second) * (len(second) + 1) / 2) / (len(first) * len(second))
    found, mistaken = _curve(first, second)
    recall = found / len(second)
    precision = found / (found + mistaken)
    average = float(np.sum(np.diff(recall, prepend=0.0) * precision))
    enough = int(np.searchsorted(recall, RECALL))
    return {"auroc": float(area), "ap": average, "fpr95": float(mistaken[enough] / len(first))}


def _curve(known: Floats, unknown: Floats) -> tuple[Floats, Floats]:
    """How many unknown and how many known are at or above each threshold, the highest first."""
    thresholds = np.unique(np.concatenate([known, unknown]))[::-1]
    found, mistaken = (
        (len(values) - np.searchsorted(np.sort(values), thresholds, side="left")).astype(np.float64)
        for values in (unknown, known)
    )
    return found, mistaken
