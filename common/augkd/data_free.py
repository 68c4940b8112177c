"""Data-free learning: a generator of what a teacher knows, from the teacher alone (AuG-KD, section 3.2)."""

import copy
import dataclasses

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import NotNegative, checked_fields
from common.augkd import losses
from common.augkd.artefact import Artefact
from common.augkd.batch_norm import StatisticsDistance
from common.augkd.stages import Sample, Stage, adam, label_loss
from common.losses import kl_divergence
from common.teacher import Teacher


@checked_fields
@dataclasses.dataclass(frozen=True)
class DataFreeWeights:
    """Factors of the parts of the generator's loss.

    Attributes:
        adversarial: Of minus the distance between teacher and student.
        one_hot: Of the teacher being sure.
        balance: Of the mean prediction against the labels' frequencies.
        statistics: Of the distance to what the teacher's BatchNorm layers remember.
        labels: Of the teacher's cross-entropy with the labels that were generated from; label maps only.
        variation: Of the total variation, of inputs scaled to [0, 1].
    """

    adversarial: NotNegative
    one_hot: NotNegative
    balance: NotNegative
    statistics: NotNegative
    labels: NotNegative
    variation: NotNegative


# The paper's (its released code's), where predictions are single classes; for label maps ours.
PLAIN = DataFreeWeights(adversarial=1.0, one_hot=1.0, balance=20.0, statistics=1.0, labels=0.0, variation=0.0)
DENSE = DataFreeWeights(adversarial=1.0, one_hot=0.1, balance=1.0, statistics=1.0, labels=1.0, variation=0.1)


class DataFreeLearning(Stage):
    """A generator of what the teacher knows, a student that learns from it, and an encoder back to the latents.

    A round is one step of the generator and five of student and encoder. The generator wants what teacher and student
    disagree about, of which the teacher is sure, in all classes, with the statistics of the teacher's BatchNorm layers;
    the encoder the latent that an input came from.

    Nothing of the student's domain is looked at but its labels: their frequencies, and where predictions are label maps
    the maps that images are generated for.

    Args:
        artefact: Its generator and encoder are trained.
        teacher: Frozen.
        student: Copied as it is; from inputs to logits.
        wanted: Frequencies of the classes, ``[C]``.
        rounds: How many.
        batch_size: Inputs generated at a time, where predictions are single classes; of label maps, as many as come.
        rate: Of Adam, for all three, falling to zero as half a cosine.
        prior: Factor of the latents' divergence from the standard normal distribution.
        weights: ``None`` for :data:`PLAIN` or :data:`DENSE`.
    """

    name = "data-free learning"
    _STUDENT_STEPS = 5

    def __init__(
        self,
        artefact: Artefact,
        teacher: Teacher,
        student: nn.Module,
        wanted: Tensor,
        rounds: int,
        batch_size: int,
        rate: float = 1e-3,
        prior: float = 2.5e-4,
        weights: DataFreeWeights | None = None,
    ) -> None:
        self.artefact, self.teacher, self.wanted = artefact, teacher, wanted
        self.layout = artefact.layout
        self.rounds, self.done, self.batch_size, self.rate, self.prior = rounds, 0, batch_size, rate, prior
        self.weights = weights or (DENSE if self.layout.dense else PLAIN)
        self.student = copy.deepcopy(student).requires_grad_(True)
        self.statistics = StatisticsDistance(teacher)
        generator, encoder = artefact.generator.requires_grad_(True), artefact.encoder.requires_grad_(True)
        self.players = {
            "generator": generator,
            "encoder": encoder,
            "student": self.student,
            **{
                f"{name}_optimizer": adam(module, rate)
                for name, module in (("generator", generator), ("encoder", encoder), ("student", self.student))
            },
        }

    def round(self, sample: Sample) -> str:
        """See :class:`Stage`."""
        hot = self.layout.one_hot(sample.labels, sample.valid) if self.layout.dense else None
        self.artefact.generator.train()
        self.student.train()
        fooled = self._generator_step(sample, hot)
        for _ in range(self._STUDENT_STEPS):
            learnt = self._student_step(sample, hot)
        self.done += 1
        return f"generator {fooled:.3f}, student {learnt:.3f}"

    def _draw(self, sample: Sample, hot: Tensor | None) -> Tensor:
        """Standard normal latents."""
        like, encoder = sample.inputs, self.artefact.encoder
        if hot is None:
            return torch.randn(self.batch_size, encoder.latent, device=like.device)
        grid = self.layout.coarse((hot.shape[2], hot.shape[3]))
        return torch.randn(len(hot), encoder.latent, *grid, device=like.device)

    def _generator_step(self, sample: Sample, hot: Tensor | None) -> float:
        generated = self.artefact.generator(self._draw(sample, hot), hot)
        with self.statistics.watching():
            teacher = self._heard(self.teacher, generated)
        loss = self._generator_loss(generated, teacher, self.student(generated), sample)
        optimizer = self.players["generator_optimizer"]
        assert isinstance(optimizer, torch.optim.Optimizer)
        self._step(optimizer, self.rate, loss)
        return float(loss.detach())

    def _generator_loss(self, generated: Tensor, teacher: Tensor, student: Tensor, sample: Sample) -> Tensor:
        weights = self.weights
        adversarial = (
            losses.adversarial_logit_loss(student, teacher)
            if self.layout.dense
            else -kl_divergence(student, teacher).mean()
        )
        loss = weights.adversarial * adversarial + weights.one_hot * losses.one_hot_loss(teacher).mean()
        loss = loss + weights.balance * losses.balance_loss(teacher, self.wanted)
        if weights.statistics and self.statistics.layers:
            loss = loss + weights.statistics * self.statistics.distance()
        if weights.variation:
            loss = loss + weights.variation * losses.total_variation(generated / self.artefact.generator.span)
        if weights.labels and self.layout.dense:
            loss = loss + weights.labels * label_loss(teacher, sample)
        return loss

    def _student_step(self, sample: Sample, hot: Tensor | None) -> float:
        latents = self._draw(sample, hot)
        with torch.no_grad():
            generated = self.artefact.generator(latents, hot)
        teacher = self.teacher(generated)
        student = self.student(generated)
        apart = (
            losses.logit_discrepancy(student, teacher) if self.layout.dense else kl_divergence(student, teacher).mean()
        )
        encoded = self.artefact.encoder(generated, self.layout.one_hot(teacher.argmax(dim=1)) if hot is None else hot)
        back = F.mse_loss(encoded.sample(), latents)
        prior = losses.prior_divergence(encoded.mean, encoded.log_variance)
        for name, loss in (("student", apart), ("encoder", back + self.prior * prior)):
            optimizer = self.players[f"{name}_optimizer"]
            assert isinstance(optimizer, torch.optim.Optimizer)
            self._step(optimizer, self.rate, loss)
        return float(apart.detach())
