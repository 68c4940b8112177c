"""The two stages before a student is trained: data-free learning and anchor learning (paper, sections 3.2 and 3.3)."""

import copy
import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import NotNegative, checked_fields
from common.augkd import losses
from common.augkd.artefact import Artefact
from common.augkd.batch_norm import StatisticsDistance
from common.errors import NonFiniteLossError
from common.losses import kl_divergence, mean_over_valid
from common.teacher import Teacher


class Sample(NamedTuple):
    """A minibatch of the student's domain.

    Attributes:
        inputs: ``[B, channels, H, W]``, as the student is given them.
        labels: ``int64 [B, *]``.
        valid: ``bool [B, *]``, or ``None`` for all.
    """

    inputs: Tensor
    labels: Tensor
    valid: Tensor | None = None


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


# The paper's (its released code's), where predictions are single classes; for label maps ours, chosen on source
# validation (benchmarks/augkd).
PLAIN = DataFreeWeights(adversarial=1.0, one_hot=1.0, balance=20.0, statistics=1.0, labels=0.0, variation=0.0)
DENSE = DataFreeWeights(adversarial=1.0, one_hot=0.1, balance=1.0, statistics=1.0, labels=1.0, variation=0.1)


class Stage(ABC):
    """A training of its own, one round at a time.

    Attributes:
        name: For people, and of its file.
        rounds: How many there are.
        done: How many are over.
        players: What its state consists of.
    """

    name: str
    rounds: int
    done: int
    players: dict[str, nn.Module | torch.optim.Optimizer]

    @abstractmethod
    def round(self, sample: Sample) -> str:
        """Take one; gives what to show of it.

        Raises:
            NonFiniteLossError: naming stage and round.
        """

    def networks(self) -> dict[str, nn.Module]:
        """What is kept of it."""
        return {name: player for name, player in self.players.items() if isinstance(player, nn.Module)}

    def state(self) -> dict[str, Any]:
        """All of it that changes."""
        return {"done": self.done, **{name: player.state_dict() for name, player in self.players.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.done = state["done"]
        for name, player in self.players.items():
            player.load_state_dict(state[name])

    def _step(self, optimizer: torch.optim.Optimizer, rate: float, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"{self.name}: the loss is {loss.item()} in round {self.done}")
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * self.done / self.rounds))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _heard(self, teacher: Teacher, inputs: Tensor) -> Tensor:
        """The teacher's logits with their graph."""
        logits = teacher.differentiable(inputs)
        if not bool(torch.isfinite(logits).all()):
            raise NonFiniteLossError(
                f"{self.name}: the teacher's logits are not finite on generated samples (round {self.done}); give"
                " another teacher"
            )
        return logits


def _adam(module: nn.Module, rate: float) -> torch.optim.Optimizer:
    return torch.optim.Adam(module.parameters(), lr=rate, weight_decay=1e-4)


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
                f"{name}_optimizer": _adam(module, rate)
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
            loss = loss + weights.labels * _label_loss(teacher, sample)
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


class AnchorLearning(Stage):
    """The anchor: where latents of the student's domain have to go for the teacher to know what is generated of them.

    ``mean uncertainty(T(G(z'))) + budget + β · CE(T(G(z')), y)``; generator and encoder stay as they are.

    Args:
        artefact: Its anchor is trained.
        teacher: Frozen.
        rounds: How many steps.
        rate: Of Adam, falling to zero as half a cosine.
        invariant: The share of a latent that stays as it is.
        labels: β.
        kind: Which uncertainty.
    """

    name = "anchor learning"

    def __init__(
        self,
        artefact: Artefact,
        teacher: Teacher,
        rounds: int,
        rate: float = 1e-3,
        invariant: float = 0.25,
        labels: float = 0.1,
        kind: losses.Uncertainty = "energy",
    ) -> None:
        assert artefact.anchor is not None
        self.artefact, self.teacher = artefact.freeze(), teacher
        self.anchor = artefact.anchor.requires_grad_(True)
        self.rounds, self.done, self.rate = rounds, 0, rate
        self.invariant, self.labels, self.kind = invariant, labels, kind
        self.optimizer = _adam(self.anchor, rate)
        self.players = {"anchor": self.anchor, "anchor_optimizer": self.optimizer}

    def round(self, sample: Sample) -> str:
        """See :class:`Stage`."""
        hot = self.artefact.layout.one_hot(sample.labels, sample.valid)
        with torch.no_grad():
            latents = self.artefact.encoder(sample.inputs.float(), hot).mean
        mask = self.anchor.mask(hot, latents)
        teacher = self._heard(self.teacher, self.artefact.generator(self.anchor(latents, mask), hot))
        unsure = mean_over_valid(losses.uncertainty(teacher, self.kind), sample.valid)
        budget = losses.budget_loss(mask, self.invariant)
        label = _label_loss(teacher, sample)
        self._step(self.optimizer, self.rate, unsure + budget + self.labels * label)
        self.done += 1
        return f"{self.kind} {float(unsure.detach()):.3f}, cross-entropy {float(label.detach()):.3f}"


def _label_loss(logits: Tensor, sample: Sample) -> Tensor:
    """Cross-entropy with the sample's labels, mean over valid positions."""
    labels = sample.labels if sample.valid is None else sample.labels.masked_fill(~sample.valid, 0)
    return mean_over_valid(F.cross_entropy(logits.float(), labels, reduction="none"), sample.valid)
