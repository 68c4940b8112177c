"""Class-wise self-knowledge distillation (CS-KD).

Yun, Park, Lee, Shin: Regularizing Class-wise Predictions via Self-knowledge Distillation, CVPR 2020
(arXiv 2003.13964), with the authors' code (alinlab/cs-kd, ``train.py``).
"""

from typing import ClassVar

import torch
from torch import Tensor

from common.arguments import Positive
from common.losses import full_precision, kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def class_partners(labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """For each sample another one of its class, drawn evenly; itself where there is none.

    A class is put in a random circle and everyone takes the next one.

    Args:
        labels: ``int64 [B]``, not negative where valid.
        valid: ``bool [B]``; others are their own partner and nobody else's.

    Returns:
        ``int64 [B]`` indices into the batch.
    """
    place = torch.arange(len(labels), device=labels.device)
    if valid is not None:
        labels = torch.where(valid, labels, -1 - place)
    shuffled = torch.randperm(len(labels), device=labels.device)
    order = shuffled[labels[shuffled].argsort(stable=True)]
    sorted_labels = labels[order]
    starts = torch.searchsorted(sorted_labels, sorted_labels)
    ends = torch.searchsorted(sorted_labels, sorted_labels, right=True)
    following = torch.where(place + 1 < ends, place + 1, starts)
    return torch.empty_like(place).scatter_(0, order, order[following])


def class_means(probabilities: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """Mean prediction of the batch's valid positions of each class.

    Args:
        probabilities: ``[B, C, *]``.
        labels: ``int64 [B, *]``.
        valid: ``bool [B, *]`` or ``None``.

    Returns:
        ``[C, C]``, row k the mean over the positions of class k; zero for a class that is not there.
    """
    batch, classes = probabilities.shape[:2]
    member = torch.zeros_like(probabilities).scatter_(1, labels.unsqueeze(1), 1.0)
    if valid is not None:
        member = member * valid.unsqueeze(1)
        probabilities = probabilities.masked_fill(~valid.unsqueeze(1), 0.0)
    # Half precision, which autocast would choose, cannot count to the pixels of a batch.
    with torch.autocast(probabilities.device.type, enabled=False):
        flat = (batch, classes, -1)
        sums = torch.einsum("bkn,bcn->kc", member.reshape(flat), probabilities.reshape(flat))
    counts = member.transpose(0, 1).reshape(classes, -1).sum(dim=1)
    return sums / counts.clamp(min=1).unsqueeze(1)


class CSKD(Term):
    """``T² · KL(sg softmax(z′ / T) ‖ softmax(z / T))`` with z′ the prediction on another input of the class.

    The prediction on one sample teaches the others of its class; no gradient flows into z′.

    - One label a sample: z′ is the batch's prediction on another sample of the same label, drawn
      anew at every step. A sample whose label is alone in the batch contributes 0.
    - One label a pixel (ours): pixels of class k learn from the mean of ``softmax(z / T)`` over the
      batch's valid pixels of class k, themselves included.

    Deviation from the paper's code: it draws a partner for every sample from the whole training set
    and runs the network on it once more; here partners are found in the batch and cost nothing, so
    batches should be large against the number of classes.

    Args:
        weight: λ; the paper's 1 (3 on fine-grained data).
        temperature: T, positive; the paper's 4.

    Raises:
        InputError: the temperature is not positive.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    analogue: ClassVar[str] = "with a teacher, method=cs_kd_teacher groups by its choices instead"

    def __init__(self, weight: Weight = 1.0, temperature: Positive = 4.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def groups(self, view: View) -> Tensor:
        """What makes positions alike, ``int64 [B, *]``: their label."""
        return view.labels()

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs ``fraction_paired``, how many had someone to learn from."""
        groups = self.groups(view)
        clean = view.logits.detach()
        if groups.dim() == 1:
            partner = class_partners(groups, view.valid)
            paired = (partner != torch.arange(len(partner), device=partner.device)).float()
            target = clean[partner]
        else:
            paired = torch.ones_like(groups, dtype=torch.float32)
            target = self._mean_logits(clean, groups, view.valid)
        loss = self.temperature**2 * kl_divergence(view.logits, target, self.temperature, view.valid)
        # A sample's divergence from itself is zero up to rounding; so is its gradient.
        loss = loss.masked_fill(paired == 0, 0.0)
        return TermOutput(loss, {"fraction_paired": mean_over_valid(paired, view.valid)})

    def _mean_logits(self, logits: Tensor, groups: Tensor, valid: Tensor | None) -> Tensor:
        """Logits ``[B, C, *]`` that at temperature T give the mean prediction of each position's class."""
        means = class_means((full_precision(logits) / self.temperature).softmax(dim=1), groups, valid)
        tiny = torch.finfo(means.dtype).tiny
        return (self.temperature * means.clamp(min=tiny).log())[groups].movedim(-1, 1).to(logits.dtype)


class CSKDTeacher(CSKD):
    """CS-KD (:class:`CSKD`) with groups by the teacher's most probable class, for tasks without labels.

    For PPO: observations in which the teacher would take the same action share their predictions
    (ours). The teacher's probabilities are not used.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})
    analogue: ClassVar[str] = ""

    def groups(self, view: View) -> Tensor:
        """The teacher's most probable class, ``int64 [B, *]``."""
        assert view.teacher_logits is not None
        return view.teacher_logits.argmax(dim=1)
