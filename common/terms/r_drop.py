"""R-Drop.

Liang, Wu, Li, Wang, Meng, Qin, Chen, Zhang, Liu: R-Drop: Regularized Dropout for Neural Networks,
NeurIPS 2021 (arXiv 2106.14448), with the authors' code (dropreg/R-Drop).
"""

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import Inside, NotNegative
from common.losses import label_cross_entropy, mean_over_valid, symmetric_kl
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View

DROPOUT_LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def has_dropout(network: nn.Module) -> bool:
    """Whether the network drops anything in training.

    >>> has_dropout(nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.0)))
    False
    """
    return any(isinstance(module, DROPOUT_LAYERS) and module.p > 0 for module in network.modules())


def drop_channels(features: Tensor, rate: float) -> Tensor:
    """``[B, D, *]`` with whole channels dropped, one mask a sample, the rest scaled by 1 / (1 − rate)."""
    ones = features.new_ones(features.shape[:2] + (1,) * (features.dim() - 2))
    return features * F.dropout(ones, rate, training=True)


class RDrop(Term):
    """``CE₁ + CE₂ + α · ½ · [KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)]`` of two dropped-out looks at the same inputs.

    Gradients reach both looks and there is no temperature. The two looks are

    - where the network drops out by itself (torch's dropout layers): the prediction the task's loss
      has already seen, and a second pass of the network. The task's loss is CE₁.
    - else (ours): two calls of the head on features with channels dropped at ``rate``, one mask a
      sample. The task's loss is then of a clean prediction, which R-Drop does not train on, so the
      term takes that cross-entropy off again.

    Either way, with ``task_weight`` 1 and ``weight`` 1, the total *equals* the formula. The looks'
    cross-entropy is what sets it apart from SD-Dropout, whose task loss stays clean. Where the head
    gives a coarser grid, the looks are resized to that of the labels (bilinear, corners aligned).

    Without labels (PPO) the term is ``α · ½ · [KL + KL]`` alone: dropout must not enter the
    probability ratio, so R-Drop can be an auxiliary loss only.

    The authors' code sums the KL over the batch in some tasks; here it is the mean over positions.

    Args:
        weight: Factor in the total loss.
        alpha: α, not negative; 1 is ours: the paper chooses it for each task.
        rate: Dropout probability in (0, 1) where the network has none; 0.1 is ours.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features"})

    def __init__(self, weight: Weight = 1.0, alpha: NotNegative = 1.0, rate: Inside = 0.1) -> None:
        super().__init__(weight)
        self.alpha = alpha
        self.rate = rate
        self.second_pass = False

    def bind(self, network: nn.Module, view: View) -> None:
        """See whether the network drops out by itself."""
        self.second_pass = has_dropout(network)

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs ``kl``, half the symmetric KL, and the looks' ``disagreement``."""
        if self.second_pass:
            first, second = view.logits, view.forward(view.inputs)
        else:
            first, second = (self._look(view) for _ in range(2))
        divergence = 0.5 * symmetric_kl(first, second, 1.0, view.valid)
        loss = self.alpha * divergence
        if view.targets is not None:
            labels = view.labels()
            loss = loss + label_cross_entropy(second, labels, view.valid)
            if not self.second_pass:
                loss = loss + label_cross_entropy(first, labels, view.valid)
                loss = loss - label_cross_entropy(view.logits, labels, view.valid)
        disagreement = (first.argmax(dim=1) != second.argmax(dim=1)).float()
        metrics = {
            "kl": mean_over_valid(divergence.detach(), view.valid),
            "disagreement": mean_over_valid(disagreement, view.valid),
        }
        return TermOutput(loss, metrics)

    def _look(self, view: View) -> Tensor:
        look = view.head(drop_channels(view.features, self.rate))
        if look.shape[2:] == view.logits.shape[2:]:
            return look
        return F.interpolate(look, size=view.logits.shape[2:], mode="bilinear", align_corners=True)
