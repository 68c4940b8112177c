"""Self-distillation from the last mini-batch (DLB).

Shen, Xu, Yang, Li, Guo: Self-Distillation from the Last Mini-Batch for Consistency Regularization,
CVPR 2022 (arXiv 2203.16172), with the authors' code (Meta-knowledge-Lab/DLB, ``dlb.py``).
"""

from typing import Any

import torch
from torch import Tensor, nn

from common.arguments import Positive
from common.losses import kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Term, TermOutput
from common.view import View

STATE = ("previous_inputs", "previous_logits", "previous_valid")


class DLB(Term):
    """``T² · KL(sg softmax(z_then / T) ‖ softmax(z_now / T))`` on the inputs of the batch before.

    ``z_then`` is what the network answered when that batch was trained on, one step ago; ``z_now``
    is its answer after the step, with a graph. The first batch has none before it and gets 0. The
    last batch of an epoch is compared with the first of the next, as in the authors' code; batches
    may differ in size.

    Needs no labels: for PPO it holds the policy near its answers of one step ago on the previous
    minibatch. The cost is a second forward pass a step, and in checkpoints the batch before. The
    loss is a scalar: filters that weigh the positions of the present batch leave it alone.

    Deviations from the authors' code: there the network sees the previous images under a *second*
    augmentation and is trained on their labels once more (cross-entropy over both batches); here it
    sees the very same inputs, so that maps stay aligned, and adds no cross-entropy.

    Args:
        weight: α; the paper's 1.
        temperature: T, positive; the paper's 3.

    Raises:
        InputError: the temperature is not positive.
    """

    previous_inputs: Tensor
    previous_logits: Tensor
    previous_valid: Tensor

    def __init__(self, weight: Weight = 1.0, temperature: Positive = 3.0) -> None:
        super().__init__(weight)
        self.temperature = temperature
        for name in STATE:
            self.register_buffer(name, torch.empty(0))

    def bind(self, network: nn.Module, view: View) -> None:
        """Forget the batch before: another training begins."""
        for name in STATE:
            setattr(self, name, torch.empty(0, device=view.logits.device))

    def forward(self, view: View) -> TermOutput:
        """The scalar loss; logs how often then and now agree on the class. Keeps the batch, in training."""
        output = self._compare(view)
        if self.training:
            self.previous_inputs = view.inputs.detach()
            self.previous_logits = view.logits.detach()
            # An empty mask means that every position counts.
            self.previous_valid = view.logits.new_empty(0) if view.valid is None else view.valid
        return output

    def _compare(self, view: View) -> TermOutput:
        if len(self.previous_inputs) == 0:
            return TermOutput(view.logits.new_zeros(()))
        now, then = view.forward(self.previous_inputs), self.previous_logits
        valid = self.previous_valid if len(self.previous_valid) else None
        loss = self.temperature**2 * kl_divergence(now, then, self.temperature, valid)
        agreement = (now.detach().argmax(dim=1) == then.argmax(dim=1)).float()
        return TermOutput(mean_over_valid(loss, valid), {"agreement": mean_over_valid(agreement, valid)})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        # A batch has the shape it has; torch would insist on that of the buffers here.
        for name in STATE:
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(saved, device=getattr(self, name).device))
        super()._load_from_state_dict(state_dict, prefix, *args)
