"""Teacher-free knowledge distillation (Tf-KD).

Yuan, Tay, Li, Wang, Feng: Revisiting Knowledge Distillation via Label Smoothing Regularization,
CVPR 2020 (arXiv 1909.11723), with the authors' code (yuanli2333/Teacher-free-Knowledge-Distillation,
``my_loss_function.py``).

The paper has two methods. **Tf-KD reg**, a teacher made by hand, is here. **Tf-KD self** is plain
knowledge distillation from a finished run of the *same* network (a born-again teacher): it is
:class:`common.terms.kd.KD` with ``teacher=`` that run's folder, and ``method=tf_kd_self`` is the
configuration of that name. For a ResNet-18 on CIFAR-100 the authors' code trains it with 0.05 on
the labels, 0.95 on the teacher and T = 6, and a multiplier of 50 on a divergence averaged over the
100 classes as well, that is ``0.475 · T² · KL``.
"""

from typing import ClassVar

import torch
from torch import Tensor

from common.arguments import Inside, Positive
from common.losses import kl_divergence, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def virtual_teacher(labels: Tensor, classes: int, correct: float) -> Tensor:
    """A teacher that is always right: ``correct`` on the label, the rest spread evenly.

    Args:
        labels: ``int64 [B, *]``.
        classes: C, at least 2.
        correct: Probability of the label.

    Returns:
        Probabilities ``[B, C, *]``.

    >>> virtual_teacher(torch.tensor([1]), 3, 0.5)
    tensor([[0.2500, 0.5000, 0.2500]])
    """
    shape = (labels.shape[0], classes, *labels.shape[1:])
    rest = torch.full(shape, (1.0 - correct) / (classes - 1), device=labels.device)
    return rest.scatter_(1, labels.unsqueeze(1), correct)


class TFKDReg(Term):
    """``KL(softmax(u / T) ‖ p)`` with u the virtual teacher: ``a`` on the label, the rest even.

    The paper's loss is ``(1 − α) · CE + α · KL``; here α is the ``weight`` and 1 − α the
    distillation's ``task_weight`` (0.1 and 0.9 in the authors' ResNet-18 setting).

    As in the authors' code, and unlike in Hinton's distillation: the *probabilities* u, not their
    logarithms, are divided by T and go through a softmax again; the student stays at temperature 1;
    there is no factor T². At a = 0.99 and T = 20 the target is therefore nearly uniform (label to
    other class 1.05 : 1), and the method close to label smoothing with ε = α.

    Deviation from the code: it averages the divergence over the classes too and makes up for it
    with a multiplier set by hand (100 on CIFAR-100, which has 100 classes); here it is summed over
    the classes, which is the same there and does not depend on their number elsewhere.

    Args:
        weight: α.
        correct: a in (0, 1), the virtual teacher's probability of the label; the paper's 0.99.
        temperature: T, positive; the paper's 20.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    analogue: ClassVar[str] = "without labels the entropy bonus, ppo.ent_coef, is its analogue"

    def __init__(self, weight: Weight = 0.1, correct: Inside = 0.99, temperature: Positive = 20.0) -> None:
        super().__init__(weight)
        self.correct = correct
        self.temperature = temperature

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs the student's ``accuracy`` on the batch, which this teacher has at 1."""
        labels = view.labels()
        teacher = virtual_teacher(labels, view.logits.shape[1], self.correct) / self.temperature
        loss = kl_divergence(view.logits, teacher.to(view.logits.dtype), 1.0, view.valid)
        accuracy = (view.logits.detach().argmax(dim=1) == labels).float()
        return TermOutput(loss, {"accuracy": mean_over_valid(accuracy, view.valid)})
