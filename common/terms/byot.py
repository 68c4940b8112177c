"""Be your own teacher (BYOT).

Zhang, Song, Gao, Chen, Bao, Ma: Be Your Own Teacher: Improve the Performance of Convolutional Neural
Networks via Self Distillation, ICCV 2019 (arXiv 1905.08094). Numbers (α, T, β) from a public
reimplementation (luanyunteng/pytorch-be-your-own-teacher, ``train.py``).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import Fraction, NotNegative, Positive
from common.losses import kl_divergence, mean_over_valid, soft_cross_entropy
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


class Exit(nn.Module):
    """An early classifier on one stage: to the width of the deep features, then to the classes.

    Args:
        channels: Of the stage.
        width: Of the network's last features.
        classes: C.
        dense: Whether there is a class a position (1×1 convolutions) or a sample (linear layers on
            the stage's mean over positions).
    """

    def __init__(self, channels: int, width: int, classes: int, dense: bool) -> None:
        super().__init__()
        self.dense = dense
        self.adapter = nn.Conv2d(channels, width, 1) if dense else nn.Linear(channels, width)
        self.classifier = nn.Conv2d(width, classes, 1) if dense else nn.Linear(width, classes)

    def forward(self, stage: Tensor) -> tuple[Tensor, Tensor]:
        """Features and logits, on the stage's grid or a sample."""
        features = self.adapter(stage if self.dense else _mean_over_positions(stage))
        return features, self.classifier(F.relu(features))


def _mean_over_positions(maps: Tensor) -> Tensor:
    return maps.flatten(2).mean(dim=2) if maps.dim() > 2 else maps


def squared_distance(features: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
    """``‖F_i − F‖²`` of each sample, ``[B]``: summed over channels and valid positions.

    Args:
        features: ``[B, D, *]``.
        target: ``[B, D, *]``, a constant; averaged onto another grid where it has one.
        valid: ``bool [B, *]`` on the grid of ``features``, or ``None``.
    """
    grid = features.shape[2:]
    target = target.detach()
    if not grid:
        target = _mean_over_positions(target)
    elif target.shape[2:] != grid:
        target = F.adaptive_avg_pool2d(target, (grid[0], grid[1]))
    difference = features.float() - target.float()
    if valid is not None:
        # Before the square: its gradient would be 0 · infinity where the network overflowed.
        difference = difference.masked_fill(~valid.unsqueeze(1), 0.0)
    return difference.square().flatten(1).sum(dim=1)


class BYOT(Term):
    """``Σ_i [(1 − α) · CE_i + α T² · KL(sg p ‖ p_i) + β · ‖F_i − sg F‖²]`` over early classifiers i.

    Each of the encoder's stages gets a classifier of its own, which learns from the labels, from the
    network's prediction p (at temperature T) and from its last features F. The paper's total has
    ``(1 − α) · CE`` of the deepest classifier too: that is the task's loss with ``task_weight``
    1 − α. Neither p nor F gets a gradient from the classifiers. They are parameters of the term,
    trained by the student's optimiser, and are not there at inference.

    Ours: the classifiers are two 1×1 convolutions with a rectifier between them (linear layers on
    the stage's mean where there is one label a sample), instead of the paper's deep bottlenecks. Per
    pixel, the early logits are resized (bilinear) to those of the network, and F is averaged onto
    the stage's grid. ‖·‖² is summed over channels and valid positions and averaged over samples
    (weighed by their valid positions), where the public code sums over the batch as well, and only
    where either feature is positive.

    Args:
        weight: Factor in the total loss.
        alpha: α in [0, 1].
        temperature: T, positive.
        beta: β, not negative.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"stages", "labels", "features"})

    def __init__(
        self,
        weight: Weight = 1.0,
        alpha: Fraction = 0.1,
        temperature: Positive = 3.0,
        beta: NotNegative = 1e-6,
    ) -> None:
        super().__init__(weight)
        self.alpha = alpha
        self.temperature = temperature
        self.beta = beta
        self.exits = nn.ModuleList()

    def bind(self, network: nn.Module, view: View) -> None:
        """Make a classifier for each stage of ``view``."""
        assert view.stages is not None
        width, classes, dense = view.features.shape[1], view.logits.shape[1], view.logits.dim() > 2
        exits = [Exit(stage.shape[1], width, classes, dense) for stage in view.stages]
        self.exits = nn.ModuleList(exits).to(view.logits.device)

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs each exit's cross-entropy ``exit_<i>`` and the mean distance ``hint``."""
        assert view.stages is not None
        if not self.exits:
            raise RuntimeError("BYOT.bind must be called before training")
        labels, logits = view.labels(), view.logits.detach()
        one_hot = torch.zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1.0)
        loss, hint = torch.zeros((), device=logits.device), torch.zeros((), device=logits.device)
        metrics: dict[str, Tensor] = {}
        for number, (exit_, stage) in enumerate(zip(self.exits, view.stages, strict=True)):
            features, early = exit_(stage)
            hint = hint + squared_distance(features, view.features, view.valid_on(features.shape[2:]))
            if early.shape[2:] != logits.shape[2:]:
                early = F.interpolate(early, size=logits.shape[2:], mode="bilinear", align_corners=False)
            cross_entropy = soft_cross_entropy(early, one_hot, view.valid)
            divergence = self.temperature**2 * kl_divergence(early, logits, self.temperature, view.valid)
            loss = loss + (1 - self.alpha) * cross_entropy + self.alpha * divergence
            metrics[f"exit_{number}"] = mean_over_valid(cross_entropy.detach(), view.valid)
        metrics["hint"] = hint.detach().mean()
        # A sample's distance goes with each of its positions, so that their mean has it once.
        return TermOutput(loss + self.beta * hint.view(-1, *(1,) * (labels.dim() - 1)), metrics)
