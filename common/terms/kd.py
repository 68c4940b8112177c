"""Knowledge distillation.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (arXiv 1503.02531), section 2.
"""

from typing import ClassVar

from common.arguments import Positive
from common.losses import kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


class KD(Term):
    """``T² · KL(softmax(z_teacher / T) ‖ softmax(z_student / T))`` at every position.

    The factor T² keeps the gradient's size when T changes: ∂/∂z = T (p − q). The paper's hard
    target is the task's own loss, weighed by the distillation's ``task_weight``.

    Args:
        weight: Factor in the total loss.
        temperature: T, positive.

    Raises:
        InputError: the temperature is not positive.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})
    uses_unlabelled: ClassVar[bool] = True

    def __init__(self, weight: Weight = 1.0, temperature: Positive = 1.0) -> None:
        super().__init__(weight)
        self.temperature = temperature

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs how often student and teacher agree on the class."""
        assert view.teacher_logits is not None
        divergence = kl_divergence(view.logits, view.teacher_logits, self.temperature, view.valid)
        if not view.log:
            return TermOutput(self.temperature**2 * divergence)
        agreement = (view.logits.detach().argmax(dim=1) == view.teacher_logits.argmax(dim=1)).float()
        metrics = {"teacher_agreement": mean_over_valid(agreement, view.valid)}
        return TermOutput(self.temperature**2 * divergence, metrics)
