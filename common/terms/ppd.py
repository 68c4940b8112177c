"""Proximal policy distillation (PPD).

Spigler: Proximal Policy Distillation, TMLR 2025 (arXiv 2407.15134); https://github.com/spiglerg/sb3_distill.
"""

from typing import ClassVar

from common.arguments import Fraction, Positive
from common.losses import full_precision, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, TermOutput
from common.terms.kd import KD
from common.view import View


class PPD(KD):
    """``max(r, 1 − ε) · T² · KL(π_teacher ‖ π_student)``, ``r = π_student(a) / π_behaviour(a)``.

    r is PPO's probability ratio of the action that was taken, and 1 − ε the lower end of PPO's clipping. It is
    what is left of clipping the product as PPO clips the advantage: a divergence is never negative, so that the
    upper clip never binds.

    As in the author's code the ratio is *not* a constant: where r > 1 − ε its gradient, r · ∇log π(a) · KL, makes
    actions less probable in states where student and teacher disagree. With ``detach_ratio`` (ours) the ratio
    only weighs states; at the first minibatch, where r = 1, that is plain KD.

    Deviations: a temperature (the paper has none, T = 1).

    Args:
        weight: λ; the paper's 1.
        temperature: T, positive.
        epsilon: ε in [0, 1], PPO's clip range; the configuration takes it from there.
        detach_ratio: Whether the ratio is a constant.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher", "ratio"})
    analogue: ClassVar[str] = "method=kd is the same without actions"

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: Positive = 1.0,
        epsilon: Fraction = 0.2,
        detach_ratio: bool = False,
    ) -> None:
        super().__init__(weight, temperature)
        self.epsilon = epsilon
        self.detach_ratio = detach_ratio

    def forward(self, view: View) -> TermOutput:
        """Loss ``[B]``; logs the agreement of :class:`KD` and the mean of the ratio's weight."""
        assert view.ratio is not None
        output = super().forward(view)
        ratio = view.ratio.detach() if self.detach_ratio else view.ratio
        factor = full_precision(ratio).clamp(min=1.0 - self.epsilon)
        output.loss = factor * output.loss
        if view.log:
            output.metrics["ratio_weight"] = mean_over_valid(factor.detach(), view.valid)
        return output
