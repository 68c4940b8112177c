"""The task's own loss: cross-entropy, as the host library has it, or others."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from common.arguments import NotNegative, Positive, Share, checked_fields
from common.errors import InputError
from kdseg.domains.sample import IGNORE

Name = Literal["cross_entropy", "focal", "dice_cross_entropy"]


@checked_fields
@dataclasses.dataclass(frozen=True)
class TaskLoss:
    """What a labelled pixel costs.

    Attributes:
        name: ``cross_entropy``; ``focal``, (1 − p)^gamma of it, p the label's probability (Lin et al. 2017,
            https://arxiv.org/abs/1708.02002, with a softmax); ``dice_cross_entropy``, its sum with ``dice`` times
            segmentation-models-pytorch's Dice loss of the batch, which no pixel has a share in.
        class_weights: A factor for each class's pixels, or ``None``. As in torch, a batch's mean is over the factors.
        label_smoothing: Part of the label's probability that all classes share; for ``focal`` it must be 0.
        gamma: Of ``focal``.
        dice: Of ``dice_cross_entropy``.

    Raises:
        InputError: a value outside its range, or smoothed labels for ``focal``.
    """

    name: Name = "cross_entropy"
    class_weights: Sequence[Positive] | None = None
    label_smoothing: Share = 0.0
    gamma: NotNegative = 2.0
    dice: NotNegative = 1.0

    def __post_init__(self) -> None:
        if self.name == "focal" and self.label_smoothing:
            raise InputError(f"loss.label_smoothing={self.label_smoothing} does not go with loss.name=focal; use 0")

    @property
    def is_plain(self) -> bool:
        """Whether it is the mean cross-entropy over labelled pixels."""
        return self.name == "cross_entropy" and self.class_weights is None and not self.label_smoothing

    @property
    def is_per_position(self) -> bool:
        """Whether each pixel has its own share, which a filter can scale."""
        return self.name != "dice_cross_entropy"

    def check_classes(self, classes: int) -> None:
        """Raise unless there is a factor for each class.

        Raises:
            InputError: there are more or fewer.
        """
        if self.class_weights is not None and len(self.class_weights) != classes:
            raise InputError(f"loss.class_weights={list(self.class_weights)} must be {classes} numbers, one a class")

    def mean(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The batch's loss, the host's own mean where it :attr:`is_plain`; 0 where no pixel is labelled.

        Args:
            logits: ``[B, C, H, W]``.
            masks: ``int64 [B, H, W]``, 255 where there is no label.
        """
        labelled = masks != IGNORE
        if self.is_plain:
            total = F.cross_entropy(logits, masks, ignore_index=IGNORE, reduction="sum")
        else:
            total = self.positions(logits, masks)[labelled].sum()
        return total / labelled.sum().clamp(min=1)

    def positions(self, logits: Tensor, masks: Tensor) -> Tensor:
        """The loss per pixel, whose mean over labelled pixels is the batch's.

        Args:
            logits: ``[B, C, H, W]``.
            masks: ``int64 [B, H, W]``, 255 where there is no label.

        Returns:
            ``[B, H, W]``, 0 where there is no label (and Dice aside).
        """
        weights = None if self.class_weights is None else logits.new_tensor(list(self.class_weights))
        smoothing = self.label_smoothing
        loss = F.cross_entropy(logits, masks, weights, ignore_index=IGNORE, reduction="none", label_smoothing=smoothing)
        labelled = masks != IGNORE
        if self.name == "focal":
            labels = masks.masked_fill(~labelled, 0)
            log_p = logits.log_softmax(dim=1).gather(1, labels[:, None])[:, 0]
            loss = loss * (-torch.expm1(log_p)).clamp(min=0) ** self.gamma
        if weights is not None:
            factors = weights[masks.masked_fill(~labelled, 0)].masked_fill(~labelled, 0)
            loss = loss * (labelled.sum() / factors.sum().clamp(min=torch.finfo(factors.dtype).tiny))
        if self.name == "dice_cross_entropy":
            loss = loss + self.dice * self._dice(logits, masks)
        return loss

    def _dice(self, logits: Tensor, masks: Tensor) -> Tensor:
        loss: Tensor = smp.losses.DiceLoss("multiclass", from_logits=True, ignore_index=IGNORE)(logits, masks)
        return loss
