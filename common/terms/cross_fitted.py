"""Cross-fitted distillation with a loss correction.

Dao, Kamath, Syrgkanis, Mackey: Knowledge Distillation as Semiparametric Inference, ICLR 2021 (arXiv
2104.09732). The paper's body is not available to us; the formulas are those of the authors' code,
https://github.com/microsoft/semiparametric-distillation (``kd.py``, ``distill_train.py``, ``tabular.py``).
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from common.arguments import Inside, Positive
from common.losses import full_precision, kl_divergence, mean_over_valid, soft_cross_entropy
from common.schedule import Weight
from common.teacher import CrossFittedTeacher, Teacher
from common.terms.base import Need, Term, TermOutput
from common.view import View


def residual(probabilities: Tensor, labels: Tensor, correction: str, strength: float, floor: float) -> Tensor:
    """``γ · (y − p)``, the label's disagreement with the teacher, ``[B, C, *]``.

    - ``orthogonal``: γ = 1/p, so y/p − 1, with p at least ``floor`` under the label.
    - ``bounded``: ``γ = (c / p) / (c + (y − p)²)``, which minimises ``γ² (y − p)² + c (γ − 1/p)²``: no
      correction at strength c → 0, the orthogonal one at c → ∞.

    Args:
        probabilities: The teacher's p at temperature 1.
        labels: ``int64 [B, *]``.
        correction: ``orthogonal`` or ``bounded``.
        strength: c, positive.
        floor: The least p that is divided by.
    """
    y = F.one_hot(labels, probabilities.shape[1]).movedim(-1, 1).to(probabilities.dtype)
    if correction == "orthogonal":
        return y / probabilities.clamp(min=floor) - 1.0
    error = y - probabilities
    return (strength / probabilities.clamp(min=floor)) / (strength + error.square()) * error


def target_shift(teacher_logits: Tensor, residuals: Tensor, temperature: float) -> Tensor:
    """Change of ``w = softmax(z_T / T)`` to first order when p moves by ``p · residuals``; sums to zero.

    ``Δw = w/T · (r − Σ_c w_c r_c)``, from w ∝ p^(1/T).
    """
    w = (full_precision(teacher_logits) / temperature).softmax(dim=1)
    return w * (residuals - (w * residuals).sum(dim=1, keepdim=True)) / temperature


class CrossFittedKD(Term):
    """``T² · [KL(w ‖ q) − Σ_c Δw_c log q_c]``, w of a teacher that has not seen the sample.

    **Cross-fitting**: K teachers, teacher k trained without fold k, and each sample is labelled by the teacher of
    its own fold (see :class:`common.teacher.CrossFittedTeacher`), so that no teacher repeats labels it
    has learnt by heart. **Correction**: the target moves from w towards the label, to first order, which takes
    the teacher's own bias out of the loss: ``Δw = w/T · (r − Σ w r)``, r = γ (y − p), see
    :func:`residual`. At T = 1 the ``orthogonal`` correction gives exactly the hard label's gradient q − y
    (where p is above ``floor``), ``none`` gives q − w; ``bounded`` lies between and has less variance.

    ``orthogonal`` is the authors' ``KDOrthoLoss``. Ours: ``bounded`` under the KL loss (they have it under the
    squared error of log-probabilities), and every pixel of an image belonging to the image's fold. The
    authors' ``(1 − α) CE + α KD`` is ``task_weight`` and ``weight``.

    Give as many runs to ``teacher`` as there are folds, in the order of the folds; run k must have left out the
    samples whose index is k modulo K.

    Args:
        weight: Factor in the total loss; α = 0.5 in the authors' code.
        temperature: T, positive; 4 in the authors' configuration, 2 in their example.
        correction: ``none``, ``orthogonal`` or ``bounded``.
        strength: c of ``bounded``, positive; they choose it in 1e-5 .. 1e3 by validation.
        floor: The least probability that is divided by, in (0, 1); theirs 0.01.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher", "labels", "index"})
    teacher_class: ClassVar[type[Teacher]] = CrossFittedTeacher
    analogue: ClassVar[str] = "method=kd distils from the mean of several teachers"

    def __init__(
        self,
        weight: Weight = 0.5,
        temperature: Positive = 4.0,
        correction: Literal["none", "orthogonal", "bounded"] = "orthogonal",
        strength: Positive = 1.0,
        floor: Inside = 0.01,
    ) -> None:
        super().__init__(weight)
        self.temperature, self.strength, self.floor = temperature, strength, floor
        self.correction = correction

    def forward(self, view: View) -> TermOutput:
        """Per-position loss, which may be negative; logs the agreement with the unseeing teacher and Σ|Δw|."""
        assert view.teacher_logits is not None
        teacher = view.teacher_logits.detach()
        loss = kl_divergence(view.logits, teacher, self.temperature, view.valid)
        metrics = {}
        if view.log:
            agreement = (view.logits.detach().argmax(dim=1) == teacher.argmax(dim=1)).float()
            metrics["teacher_agreement"] = mean_over_valid(agreement, view.valid)
        if self.correction != "none":
            with torch.no_grad():
                p = full_precision(teacher).softmax(dim=1)
                r = residual(p, view.labels(), self.correction, self.strength, self.floor)
                shift = target_shift(teacher, r, self.temperature)
            if view.log:
                metrics["shift"] = mean_over_valid(shift.abs().sum(dim=1), view.valid)
            loss = loss + soft_cross_entropy(full_precision(view.logits) / self.temperature, shift, view.valid)
        return TermOutput(self.temperature**2 * loss, metrics)
