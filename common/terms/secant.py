"""A weakly augmented teacher for a strongly augmented student.

Fan, Wang, Huang, Yu, Fei-Fei, Zhu, Anandkumar: SECANT: Self-Expert Cloning for Zero-Shot Generalization of Visual
Policies, ICML 2021 (arXiv 2106.09678), section 3.2.
"""

from typing import ClassVar

import torch
from torch import nn

from common.arguments import Count, Inside, Positive
from common.distortion import Augmentation, strong
from common.errors import InputError
from common.losses import kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


class Secant(Term):
    """``T² · KL(softmax(z_teacher(x) / T) ‖ softmax(z_student(f(x)) / T))``, f a strong augmentation.

    Only this term shows the student f(x): the task's own loss, and PPO's probability ratio, see x, so that
    augmentation cannot make the policy's data another policy's. It costs one pass of the student more. The paper's
    student, which has no loss of its own, is ``task_weight=0``; its augmentations (cutout, random convolution, mixup)
    are replaced by such as keep the labels of pixels where they are.

    For images that are augmented when they are read, ``teacher_view=clean`` of ``kdseg-train`` does the same without
    another pass.

    Args:
        weight: Factor in the total loss.
        temperature: T, positive.
        augmentation: ``color``: contrast and brightness of each channel by itself; ``crop``: shifted, the edge
            repeated; ``both``. A shift does not go with dense logits.
        pixels: The largest shift, along each axis.
        strength: The largest change of contrast, and of brightness in standard deviations; in (0, 1).

    Raises:
        InputError: a value outside its range, or (in :meth:`bind`) inputs that are no frames, or a shift of what is
            labelled pixel by pixel.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})
    uses_unlabelled: ClassVar[bool] = True

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: Positive = 1.0,
        augmentation: Augmentation = "color",
        pixels: Count = 4,
        strength: Inside = 0.6,
    ) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.augmentation = augmentation
        self.pixels = pixels
        self.strength = strength

    def bind(self, network: nn.Module, view: View) -> None:
        """Refuse inputs that cannot be augmented so."""
        if view.inputs.dim() != 4:
            raise InputError(f"secant augments frames [B, C, H, W]; the inputs are {list(view.inputs.shape)}")
        if view.logits.dim() > 2 and self.augmentation != "color":
            raise InputError(
                f"secant: augmentation={self.augmentation} shifts pixels away from their labels; use augmentation=color"
            )

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs how often student and teacher agree on the class."""
        assert view.teacher_logits is not None
        with torch.no_grad():
            augmented = strong(view.inputs, self.augmentation, self.pixels, self.strength)
        logits = view.forward(augmented)
        loss = self.temperature**2 * kl_divergence(logits, view.teacher_logits, self.temperature, view.valid)
        if not view.log:
            return TermOutput(loss)
        agreement = (logits.detach().argmax(dim=1) == view.teacher_logits.argmax(dim=1)).float()
        return TermOutput(loss, {"teacher_agreement": mean_over_valid(agreement, view.valid)})
