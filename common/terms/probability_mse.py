"""Distillation of probabilities by least squares.

Weltevrede, Zanger, Spaan, Böhmer: How Ensembles of Distilled Policies Improve Generalisation in Reinforcement
Learning, 2025 (arXiv 2505.16581), which distils policies with the squared error of their probabilities.
"""

from typing import ClassVar

from common.losses import full_precision, mean_over_valid
from common.terms.base import Need, Term, TermOutput
from common.view import View


class ProbabilityMSE(Term):
    """``Σ_c (p_teacher(c) − p_student(c))²`` at every position, at temperature 1.

    Bounded by 2, unlike KL, so that no state dominates; its gradient fades where the student is sure, also of
    the wrong class. Classes are summed and positions averaged, as in every loss here; how the paper reduces over
    actions is not known to us.

    Args:
        weight: Factor in the total loss.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})
    uses_unlabelled: ClassVar[bool] = True

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs how often student and teacher agree on the class."""
        assert view.teacher_logits is not None
        logits, teacher_logits = full_precision(view.logits), full_precision(view.teacher_logits)
        if view.valid is not None:
            # Masking the result alone would leave 0 · NaN in the gradient of a position that overflowed.
            logits = logits.masked_fill(~view.valid.unsqueeze(1), 0.0)
        loss = (teacher_logits.softmax(dim=1) - logits.softmax(dim=1)).square().sum(dim=1)
        if view.valid is not None:
            loss = loss.masked_fill(~view.valid, 0.0)
        if not view.log:
            return TermOutput(loss)
        agreement = (logits.detach().argmax(dim=1) == teacher_logits.argmax(dim=1)).float()
        return TermOutput(loss, {"teacher_agreement": mean_over_valid(agreement, view.valid)})
