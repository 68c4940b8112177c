"""Subclass distillation, the teacher's half: subclasses that a network invents.

Müller, Kornblith, Hinton: Subclass Distillation, 2020 (arXiv 2002.03936), with the authors' demonstration,
https://github.com/google-research/google-research/tree/master/subclass_distillation.
"""

import math
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import LARGEST_COUNT, NotNegative, Positive, Range
from common.losses import full_precision, label_cross_entropy, mean_over_valid
from common.positions import draw_positions, rows
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def class_logits(subclass_logits: Tensor, classes: int) -> Tensor:
    """``z_c = log Σ_s exp(z_cs)``: ``[B, C·S, *]`` to ``[B, C, *]``, the subclasses of a class side by side."""
    z = full_precision(subclass_logits)
    return z.reshape(len(z), classes, -1, *z.shape[2:]).logsumexp(dim=2)


def diversity(subclass_logits: Tensor, temperature: float) -> Tensor:
    """``mean_i log Σ_j exp(v_i · v_j / T) − 1/T − log n``, v the logits made mean 0 and length 1.

    Zero, its largest value, when all n examples have the same logits up to scale and shift; the smaller, the
    less alike they are.

    Args:
        subclass_logits: ``[n, C·S]``.
        temperature: T; how much alike pairs weigh more than the others.
    """
    z = full_precision(subclass_logits)
    z = z - z.mean(dim=1, keepdim=True)
    # The small number is under the root, as in the authors' code, where equal logits would divide by zero.
    v = z / (z.square().mean(dim=1, keepdim=True) + 1e-9).sqrt() / math.sqrt(z.shape[1])
    # Half precision, which autocast would choose, is too coarse for the differences between lengths 1.
    with torch.autocast(z.device.type, enabled=False):
        alike = v @ v.T / temperature
    return alike.logsumexp(dim=1).mean() - 1.0 / temperature - math.log(len(z))


class Subclass(Term):
    """``CE(log-sum-exp of each class's S logits, label) + β · diversity``, from a head of the term's own.

    The paper's network *ends* in C × S logits; ours keeps its own head, and the subclass head, a linear map of
    the same features at every position (a 1×1 convolution), stands beside it and trains the trunk with
    it. On maps the class logits are brought to the labels' size before the cross-entropy, and the
    diversity, whose matrix is n × n, is taken over at most ``positions`` valid positions of the minibatch.

    **What is missing**: the student's half, in which a student matches the teacher's S·C subclass logits with
    ordinary distillation. A teacher here answers with C logits; its subclass logits would need its features and
    its term's head, and a run keeps the network, not the terms that trained it. A network trained with this
    term is a teacher of the usual kind.

    Args:
        weight: Factor in the total loss.
        subclasses: S, subclasses a class, at least 2; 5 in the authors' demonstration.
        diversity: β, not negative; 1 there.
        temperature: T of the diversity, positive; 1 there, "usually less than 1".
        positions: The most positions compared with one another, at least 2.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "labels"})
    head: nn.Conv1d
    classes: int

    def __init__(
        self,
        weight: Weight = 1.0,
        subclasses: Annotated[int, Range(2, LARGEST_COUNT)] = 5,
        diversity: NotNegative = 1.0,
        temperature: Positive = 1.0,
        positions: Annotated[int, Range(2, LARGEST_COUNT)] = 512,
    ) -> None:
        super().__init__(weight)
        self.subclasses, self.positions = subclasses, positions
        self.diversity, self.temperature = diversity, temperature

    def bind(self, network: nn.Module, view: View) -> None:
        """Make the head."""
        self.classes = view.logits.shape[1]
        self.head = nn.Conv1d(view.features.shape[1], self.classes * self.subclasses, 1).to(view.features.device)

    def forward(self, view: View) -> TermOutput:
        """Per-position loss; logs its two parts, the head's accuracy and how many subclasses are anyone's largest."""
        subclass_logits = self._subclass_logits(view.features)
        logits = class_logits(subclass_logits, self.classes)
        if logits.shape[2:] != view.logits.shape[2:]:
            logits = F.interpolate(logits, size=view.logits.shape[2:], mode="bilinear", align_corners=False)
        labels = view.labels()
        loss = label_cross_entropy(logits, labels, view.valid)
        compared = rows(
            subclass_logits,
            draw_positions(subclass_logits, view.valid_on(subclass_logits.shape[2:]), self.positions),
        )
        alike = diversity(compared, self.temperature) if len(compared) else loss.new_zeros(())
        total = loss + self.diversity * alike
        if not view.log:
            return TermOutput(total)
        largest = F.one_hot(compared.detach().argmax(dim=1), self.classes * self.subclasses)
        metrics = {
            "classification": mean_over_valid(loss.detach(), view.valid),
            "accuracy": mean_over_valid((logits.detach().argmax(dim=1) == labels).float(), view.valid),
            "diversity": alike.detach(),
            "subclasses_used": largest.any(dim=0).float().mean(),
        }
        return TermOutput(total, metrics)

    def _subclass_logits(self, features: Tensor) -> Tensor:
        flat = features.unsqueeze(-1) if features.dim() == 2 else features.flatten(2)
        answer: Tensor = self.head(flat)
        return answer.view(len(features), -1, *features.shape[2:])
