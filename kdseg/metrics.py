"""What predictions are, pixel by pixel, against the masks."""

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from kdseg.domains.sample import IGNORE


def batch_confusion(logits: Tensor, masks: Tensor, num_classes: int) -> Tensor:
    """Confusion matrices ``int64 [B, C, C]`` (rows true class) of each image of a batch."""
    predictions = logits.argmax(dim=1)
    matrices = [
        multiclass_confusion_matrix(prediction, mask, num_classes, ignore_index=IGNORE, validate_args=False)
        for prediction, mask in zip(predictions, masks, strict=True)
    ]
    return torch.stack(matrices).long()


def no_confusion(num_classes: int, device: torch.device) -> Tensor:
    """``int64 [C, C]`` of no pixel."""
    return torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)
