"""Representations first, the task second.

Lv, Zhao, Wang, Quan, Huyan, Sebe, Zhong: Generalizable Knowledge Distillation from Vision Foundation Models for
Semantic Segmentation, CVPR 2026 (arXiv 2603.02554).
"""

from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from common.arguments import Inside
from common.errors import InputError
from common.losses import full_precision, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


class GKD(Term):
    """The student's encoder learns the teacher's features, then it is frozen and the rest learns the task.

    In the first stage, ``1 − cos(P f_s, f_t)`` at every position of the student's deepest feature map, P a learnt
    linear map for each of the teacher's networks, whose maps are resized to the student's; the mean over networks. In
    the second, nothing: the encoder keeps its weights and statistics. The task's weight is 0 before and 1 after, which
    is ``task_weight``'s to say (``method=gkd`` does).

    Of the paper's text only abstracts were at hand. The two stages and the frozen encoder are the paper's; the loss is
    FitNets' (arXiv 1412.6550) on directions, ours; its query-based retrieval of the teacher's features is left out.

    Args:
        weight: Factor in the total loss.
        until: Part of training that the first stage takes, in (0, 1).

    Raises:
        InputError: a value outside its range, or (in :meth:`bind`) a student without an encoder of its own.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher", "encoded"})
    uses_unlabelled: ClassVar[bool] = True
    analogue: ClassVar[str] = "method=kd distils what the networks say"

    def __init__(self, weight: Weight = 1.0, until: Inside = 0.5) -> None:
        super().__init__(weight)
        self.until = until
        self.projections = nn.ModuleList()

    def bind(self, network: nn.Module, view: View) -> None:
        """Make a map to the features of each of the teacher's networks."""
        if not isinstance(getattr(network, "encoder", None), nn.Module):
            raise InputError(f"gkd freezes the encoder, and {type(network).__name__} has none; use method=kd")
        assert view.encoded is not None
        assert view.teacher_encodes is not None
        width = view.encoded.shape[1]
        device = view.encoded.device
        widths = [features.shape[1] for features in view.teacher_encodes(view.inputs)]
        self.projections = nn.ModuleList(nn.Linear(width, theirs, bias=False, device=device) for theirs in widths)

    def before_step(self, network: nn.Module, progress: float) -> None:
        """Freeze the encoder from the second stage on, at every step anew: training mode thaws its statistics."""
        if progress >= self.until:
            encoder = network.encoder
            assert isinstance(encoder, nn.Module)
            encoder.requires_grad_(False)
            encoder.eval()

    def forward(self, view: View) -> TermOutput:
        """Loss on the student's grid ``[B, *]``, or 0; logs the mean cosine."""
        if view.progress >= self.until:
            return TermOutput(view.logits.new_zeros(()))
        assert view.encoded is not None
        assert view.teacher_encodes is not None
        student = full_precision(view.encoded)
        losses = []
        for projection, features in zip(self.projections, view.teacher_encodes(view.inputs), strict=True):
            target = full_precision(features)
            if target.shape[2:] != student.shape[2:]:
                target = F.interpolate(target, size=student.shape[2:], mode="bilinear", align_corners=False)
            ours = projection(student.movedim(1, -1)).movedim(-1, 1)
            losses.append(1 - F.cosine_similarity(ours, target, dim=1))
        loss = torch.stack(losses).mean(dim=0)
        if not view.log:
            return TermOutput(loss)
        return TermOutput(loss, {"cosine": 1 - mean_over_valid(loss.detach(), view.valid_on(loss.shape[1:]))})
