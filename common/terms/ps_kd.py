"""Progressive self-knowledge distillation (PS-KD).

Kim, Ji, Yoon, Hwang: Self-Knowledge Distillation with Progressive Refinement of Targets, ICCV 2021
(arXiv 2006.12000), with the authors' code (lgcnsai/PS-KD-Pytorch, ``main.py``).
"""

import torch
from torch import Tensor, nn

from common.arguments import UpToOne
from common.frozen import FrozenCopy
from common.losses import full_precision, kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Term, TermOutput
from common.view import View


def refinement(logits: Tensor, past_logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """``CE(p_past, p) − CE(y, p) = z_y − Σ_c p_past,c · z_c``, per position.

    α times this is what the target ``(1 − α) y + α p_past`` adds to cross-entropy with y; the
    normaliser of the student's softmax is in both and cancels.

    Args:
        logits: ``[B, C, *]``.
        past_logits: ``[B, C, *]``, a constant.
        labels: ``int64 [B, *]``, any class where not valid.
        valid: ``bool [B, *]`` or ``None``.

    Returns:
        ``[B, *]``, zero where not valid.
    """
    logits, past_logits = full_precision(logits), full_precision(past_logits.detach())
    if valid is not None:
        logits, past_logits = (values.masked_fill(~valid.unsqueeze(1), 0.0) for values in (logits, past_logits))
    expected = (past_logits.softmax(dim=1) * logits).sum(dim=1)
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1) - expected


class PSKD(Term):
    """The target moves from the label to the network's own past prediction: ``(1 − α_t) y + α_t p_past``.

    ``α_t = α_T · progress``. The term is ``α_t · [CE(p_past, p) − CE(y, p)]``, so that with
    ``task_weight`` 1 and ``weight`` 1 the total *equals* cross-entropy with that target. Without
    labels (PPO) it is ``α_t · KL(p_past ‖ p)``, with the policy after the last rollout's updates as
    the past. Until the first epoch has ended there is no past and the term is 0, as in the paper.

    Deviations from the authors' code. It stores each sample's prediction of the epoch before, made
    in training mode on another augmentation; here the network as it was at the end of that epoch
    answers the *present* inputs, in eval mode and without a graph, so that a pixel's target belongs
    to that pixel whatever the augmentation. This costs one forward pass a step and a copy of the
    weights, also in checkpoints. α_t grows at every step, there at every epoch.

    Args:
        weight: Factor in the total loss.
        alpha: α_T in (0, 1], reached at the end of training; the paper's 0.8.

    Raises:
        InputError: α_T outside (0, 1].
    """

    ready: Tensor

    def __init__(self, weight: Weight = 1.0, alpha: UpToOne = 0.8) -> None:
        super().__init__(weight)
        self.alpha = alpha
        self.past: FrozenCopy | None = None
        self.register_buffer("ready", torch.tensor(False))

    def bind(self, network: nn.Module, view: View) -> None:
        """Copy the network; the copy is not asked before :meth:`after_epoch`."""
        self.past = FrozenCopy(network)
        self.ready = torch.zeros_like(self.ready)

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """The network as it is now becomes the past."""
        if self.past is None:
            raise RuntimeError("PSKD.bind must be called before training")
        self.past.follow(network)
        self.ready = torch.ones_like(self.ready)

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs ``alpha`` and how often past and present agree on the class."""
        if self.past is None:
            raise RuntimeError("PSKD.bind must be called before training")
        if not self.ready:
            zeros = full_precision(view.logits.detach()).new_zeros(view.logits[:, 0].shape)
            return TermOutput(zeros, {"alpha": zeros.new_zeros(())})
        past = self.past(view.inputs)
        if view.targets is None:
            loss = kl_divergence(view.logits, past, 1.0, view.valid)
        else:
            loss = refinement(view.logits, past, view.labels(), view.valid)
        alpha = self.alpha * view.progress
        agreement = (view.logits.detach().argmax(dim=1) == past.argmax(dim=1)).float()
        metrics = {"alpha": loss.detach().new_tensor(alpha), "past_agreement": mean_over_valid(agreement, view.valid)}
        return TermOutput(alpha * loss, metrics)
