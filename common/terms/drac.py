"""Data-regularised actor-critic (DrAC).

Raileanu, Goldstein, Yarats, Kostrikov, Fergus: Automatic Data Augmentation for Generalization in
Reinforcement Learning, NeurIPS 2021 (arXiv 2006.12862); https://github.com/rraileanu/auto-drac.
"""

from typing import ClassVar, Literal

import torch
from torch import nn

from common.arguments import Count, Inside, NotNegative
from common.distortion import strong
from common.errors import InputError
from common.losses import full_precision, kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


class DrAC(Term):
    """``KL(sg π(s) ‖ π(f(s))) + value_weight · ½ (sg V(s) − V(f(s)))²``, f an augmentation of the frames.

    PPO's own loss sees the frames as they are; only this term sees f(s). The clean policy and value are
    constants (sg). The extra cost is one pass of actor and critic.

    Deviations. The authors' code draws one action from π(s) and takes its cross-entropy; this is its exact
    expectation less the entropy of π(s), so the gradient is the same in the mean and the value is zero where
    the policies agree. The augmentation is one that you choose (their DrAC), not found by bandit (UCB-DrAC)
    or learnt. ``crop`` is theirs: up to 12 pixels either way, the edge repeated. ``color`` is a milder
    relative of their colour jitter, without hue: contrast and brightness of each channel by itself.

    Args:
        weight: α_r; the paper's 0.1.
        augmentation: ``crop`` or ``color``.
        pixels: The largest shift of ``crop``, along each axis.
        strength: Of ``color``: the largest change of contrast, and of brightness in standard deviations; in (0, 1).
        value_weight: Factor of the critic's part, not negative; the paper's 1.

    Raises:
        InputError: a value outside its range, or (in :meth:`bind`) observations that are not frames.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"values"})
    analogue: ClassVar[str] = "method=ddgsd compares two looks at images without a critic"

    def __init__(
        self,
        weight: Weight = 0.1,
        augmentation: Literal["crop", "color"] = "crop",
        pixels: Count = 12,
        strength: Inside = 0.4,
        value_weight: NotNegative = 1.0,
    ) -> None:
        super().__init__(weight)
        self.augmentation = augmentation
        self.pixels = pixels
        self.strength = strength
        self.value_weight = value_weight

    def bind(self, network: nn.Module, view: View) -> None:
        """Refuse observations that cannot be shifted or recoloured."""
        if view.inputs.dim() != 4:
            raise InputError(f"drac augments frames [B, C, H, W]; the observations are {list(view.inputs.shape)}")

    def forward(self, view: View) -> TermOutput:
        """Loss ``[B]``; logs both parts and how often the actions differ."""
        assert view.values is not None
        assert view.judge is not None
        with torch.no_grad():
            augmented = strong(view.inputs, self.augmentation, self.pixels, self.strength)
        logits, values = view.judge(augmented)
        clean = view.logits.detach()
        divergence = kl_divergence(logits, clean, valid=view.valid)
        error = 0.5 * (full_precision(view.values.detach()) - full_precision(values)).square()
        if view.valid is not None:
            error = error.masked_fill(~view.valid, 0.0)
        loss = divergence + self.value_weight * error
        if not view.log:
            return TermOutput(loss)
        metrics = {
            "policy": mean_over_valid(divergence.detach(), view.valid),
            "value": mean_over_valid(error.detach(), view.valid),
            "disagreement": mean_over_valid((clean.argmax(1) != logits.detach().argmax(1)).float(), view.valid),
        }
        return TermOutput(loss, metrics)
