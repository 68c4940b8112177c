"""Adversarial learning and implicit regularisation for self-knowledge distillation (AI-KD).

Kim, Suh, Baek, Kim, Jeong, Cho, Kim: AI-KD, Knowledge-Based Systems 2024 (arXiv 2211.10938).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from common.arguments import Count, NotNegative, Positive
from common.frozen import FrozenCopy
from common.losses import full_precision, kl_divergence, mean_over_valid
from common.positions import draw_positions, rows
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def adversarial_losses(discriminator: nn.Module, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """The student's loss ``−log D(student)`` and the discriminator's ``−log D(teacher) − log(1 − D(student))``.

    The first has no gradient for the discriminator, the second none for the student; the teacher's rows
    are constants in both.

    Args:
        discriminator: From probabilities ``[n, C]`` to a logit ``[n, 1]``: is this the teacher's?
        student: Probabilities ``[n, C]``.
        teacher: Probabilities ``[n, C]``.
    """
    fixed = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fooled = F.softplus(-functional_call(discriminator, fixed, (student,))).mean()
    told = F.softplus(-discriminator(teacher.detach())) + F.softplus(discriminator(student.detach()))
    return fooled, told.mean()


class AIKD(Term):
    """``T² · [a · KL(q ‖ p) + b · KL(p_prev ‖ p)] + c · (−log D(p)) + L_D``.

    q is a pre-trained network of the same kind (the teacher), p_prev the student at the end of the epoch
    before, and D a discriminator that tells the teacher's distributions from the student's, while
    the student learns to be taken for the teacher. L_D trains D alone, with the student's optimiser; the
    student's adversarial loss does not reach D.

    What is known and what is ours. The abstract names the parts: distillation from a pre-trained model and
    from the previous epoch, and the discriminator. The paper's weights, temperature, discriminator and kind of
    adversarial loss are not known to us: a, b, c, T, the small perceptron on probabilities at T = 1 and the
    non-saturating loss are our choices. In the first epoch there is no epoch before and that part is zero.
    On maps D sees at most ``positions`` valid positions of the minibatch, each by itself. Filters of
    positions (KDDG) scale the scalar losses, L_D among them, by the filter's mean.

    Args:
        weight: Factor in the total loss, and with it of D's learning.
        temperature: T of both divergences, positive.
        pretrained: a, not negative.
        previous: b, not negative.
        adversarial: c, not negative.
        hidden: Width of the discriminator's two hidden layers, at least 1.
        positions: The most positions the discriminator sees, at least 1.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"teacher"})
    epochs: Tensor
    before: FrozenCopy
    discriminator: nn.Sequential

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: Positive = 4.0,
        pretrained: NotNegative = 1.0,
        previous: NotNegative = 1.0,
        adversarial: NotNegative = 0.1,
        hidden: Count = 64,
        positions: Count = 4096,
    ) -> None:
        super().__init__(weight)
        self.temperature, self.hidden, self.positions = temperature, hidden, positions
        self.pretrained, self.previous, self.adversarial = pretrained, previous, adversarial
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    def bind(self, network: nn.Module, view: View) -> None:
        """Make the discriminator and room for the epoch before."""
        self.before = FrozenCopy(network)
        self.discriminator = nn.Sequential(
            nn.Linear(view.logits.shape[1], self.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(self.hidden, self.hidden),
            nn.LeakyReLU(0.2),
            nn.Linear(self.hidden, 1),
        ).to(view.logits.device)

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """Keep the student as it is now."""
        self.epochs += 1
        self.before.follow(network)

    def forward(self, view: View) -> TermOutput:
        """Per-position loss; logs its four parts and how often the discriminator is right."""
        assert view.teacher_logits is not None
        teacher = view.teacher_logits.detach()
        loss = self.pretrained * self._divergence(view, teacher)
        metrics = {"pretrained": mean_over_valid(loss.detach(), view.valid)}
        if self.previous > 0 and self.epochs > 0:
            before = self.previous * self._divergence(view, self.before(view.inputs))
            metrics["previous"] = mean_over_valid(before.detach(), view.valid)
            loss = loss + before
        drawn = draw_positions(view.logits, view.valid, self.positions)
        if self.adversarial > 0 and len(drawn):
            student = rows(full_precision(view.logits), drawn).softmax(dim=1)
            theirs = rows(full_precision(teacher), drawn).softmax(dim=1)
            fooled, told = adversarial_losses(self.discriminator, student, theirs)
            metrics |= {"adversarial": fooled.detach(), "discriminator": told.detach()}
            if view.log:
                metrics["told_apart"] = self._told_apart(student, theirs)
            loss = loss + self.adversarial * fooled + told
        return TermOutput(loss, metrics)

    def _divergence(self, view: View, logits: Tensor) -> Tensor:
        return self.temperature**2 * kl_divergence(view.logits, logits, self.temperature, view.valid)

    @torch.no_grad()
    def _told_apart(self, student: Tensor, teacher: Tensor) -> Tensor:
        right: Tensor = (self.discriminator(teacher) > 0).float() + (self.discriminator(student) <= 0).float()
        return right.mean() / 2
