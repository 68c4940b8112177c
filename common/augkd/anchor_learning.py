"""Anchor learning: where latents have to go for the teacher to know what is made of them (AuG-KD, section 3.3)."""

import torch

from common.augkd import losses
from common.augkd.artefact import Artefact
from common.augkd.stages import Sample, Stage, adam, label_loss
from common.losses import mean_over_valid
from common.teacher import Teacher


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
        self.optimizer = adam(self.anchor, rate)
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
        label = label_loss(teacher, sample)
        self._step(self.optimizer, self.rate, unsure + budget + self.labels * label)
        self.done += 1
        return f"{self.kind} {float(unsure.detach()):.3f}, cross-entropy {float(label.detach()):.3f}"
