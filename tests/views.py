"""What a term is shown where nothing but logits counts."""

import torch
from torch import Tensor

from common.view import View


def logits_view(
    logits: Tensor, targets: Tensor | None = None, valid: Tensor | None = None, teacher: Tensor | None = None
) -> View:
    """A view of these logits, and of the teacher's."""
    return View(
        inputs=logits,
        features=logits,
        head=torch.nn.Identity(),
        logits=logits,
        forward=torch.nn.Identity(),
        targets=targets,
        valid=valid,
        teacher_logits=teacher,
    )
