"""AuG-KD's losses as pure functions.

Tang, Lv, Dai, Zhang, Yin, Wei, Liu, Yang: AuG-KD: Anchor-Based Mixup Generation for Out-of-Domain Knowledge
Distillation, ICLR 2024 (arXiv 2403.07030). Formulas for label maps are DFAD's (Fang, Song, Shen, Wang, Chen, Song:
Data-Free Adversarial Distillation, 2019, arXiv 1912.11006) where they say so; for policies they are ours.

Conventions as in :mod:`common.losses`: logits ``[B, C, *]``, results per position ``[B, *]`` or scalars.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.losses import full_precision

Uncertainty = Literal["energy", "entropy", "confidence"]
"""What an anchor lowers: the free energy, the entropy, or one minus the largest probability."""


def uncertainty(logits: Tensor, kind: Uncertainty, temperature: float = 1.0) -> Tensor:
    """How little a network knows what it is shown, per position.

    - ``energy``: ``−t · logsumexp(z / t)``, the paper's, for logits of a cross-entropy;
    - ``entropy``: ``−Σ p log p`` of ``p = softmax(z / t)``; a policy's logits may all be shifted by any number, which
      the energy would follow and this does not;
    - ``confidence``: ``1 − max p``.

    Args:
        logits: ``[B, C, *]``.
        kind: One of them.
        temperature: t, positive.

    Returns:
        ``[B, *]``.

    >>> uncertainty(torch.zeros(1, 2), "energy"), uncertainty(torch.zeros(1, 2), "entropy")
    (tensor([-0.6931]), tensor([0.6931]))
    """
    scaled = full_precision(logits) / temperature
    if kind == "energy":
        return -temperature * scaled.logsumexp(dim=1)
    log_p = F.log_softmax(scaled, dim=1)
    return -(log_p.exp() * log_p).sum(dim=1) if kind == "entropy" else 1.0 - log_p.exp().amax(dim=1)


def one_hot_loss(logits: Tensor) -> Tensor:
    """Cross-entropy with the network's own choice, per position ``[B, *]``: low where it is sure."""
    return F.cross_entropy(full_precision(logits), logits.argmax(dim=1), reduction="none")


def balance_loss(logits: Tensor, wanted: Tensor) -> Tensor:
    """``KL(p̄ ‖ wanted)`` of the mean prediction p̄ over all positions, a scalar.

    With uniform ``wanted`` the paper's ``Σ p̄ log p̄`` plus log C. Other frequencies are ours: label maps are nowhere
    near balanced, and neither are a policy's actions.

    Args:
        logits: ``[B, C, *]``.
        wanted: ``[C]``, positive, summing to one.
    """
    mean = F.softmax(full_precision(logits), dim=1).transpose(0, 1).flatten(1).mean(dim=1)
    tiny = torch.finfo(mean.dtype).tiny
    return (mean * (mean.clamp(min=tiny).log() - wanted.to(mean.dtype).log())).sum()


def logit_discrepancy(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean absolute difference of logits, a scalar; DFAD, equation 5."""
    return (full_precision(student_logits) - full_precision(teacher_logits)).abs().mean()


def adversarial_logit_loss(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """``−log(1 + discrepancy)``, the generator's, a scalar; DFAD's for label maps.

    The logarithm keeps a generator from being carried away by logits without bound.
    """
    return -torch.log1p(logit_discrepancy(student_logits, teacher_logits))


def total_variation(images: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels of ``[B, C, H, W]``, a scalar: the sum over both directions."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs()
    right = (images[..., 1:] - images[..., :-1]).abs()
    return sum((part.mean() for part in (down, right) if part.numel()), images.new_zeros(()))


def prior_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``KL(N(μ, σ²) ‖ N(0, 1))``, summed over the latent dimensions, mean over ``[B, *]``: a scalar.

    Args:
        mean: ``[B, L, *]``.
        log_variance: log σ², of the same shape.
    """
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(dim=1).mean()


def budget_loss(mask: Tensor, invariant: float) -> Tensor:
    """``|mean(m) − (1 − invariant)|`` of each sample's mask, mean over samples: a scalar.

    Of each sample's, not of the batch's: the paper's budget is how much of one latent is carried over.

    Args:
        mask: ``[B, L, *]`` in [0, 1].
        invariant: The share of a latent that is to stay as it is, in [0, 1].
    """
    return (mask.flatten(1).mean(dim=1) - (1.0 - invariant)).abs().mean()


def mixed(ours: Tensor, theirs: Tensor, share: float) -> Tensor:
    """``(1 − f) · ours + f · theirs``."""
    return torch.lerp(ours, theirs, share)
