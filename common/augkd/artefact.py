"""What AuG-KD prepares before a student is trained: generator, encoder and anchor, frozen."""

from typing import Self

import torch
from torch import Tensor, nn

from common.augkd.losses import mixed
from common.augkd.networks import Anchor, Encoder, Generator, Layout


class Artefact(nn.Module):
    """From minibatches of the student's domain to samples on the way from the teacher's domain to it.

    Args:
        layout: What teacher and student are given and what they answer.
        latent: L.
        width: Of generator and encoder.
        anchored: Whether there is an anchor; without one, latents stay where they are.
    """

    def __init__(self, layout: Layout, latent: int, width: int, anchored: bool = True) -> None:
        super().__init__()
        self.layout = layout
        self.generator = Generator(layout, latent, width)
        self.encoder = Encoder(layout, latent, width)
        self.anchor = Anchor(layout.classes, latent) if anchored else None

    def freeze(self) -> Self:
        """No gradient, and eval mode for good."""
        self.requires_grad_(False)
        return self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Its networks are trained in their stages, each by itself; as a whole it stays in eval mode."""
        return super().train(False)

    def latents(self, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Latents of inputs ``[B, channels, H, W]`` with one-hot labels, before and after the anchor."""
        latents = self.encoder(inputs, labels).mean
        if self.anchor is None:
            return latents, latents
        return latents, self.anchor(latents, self.anchor.mask(labels, latents))

    @torch.no_grad()
    def mixture(self, inputs: Tensor, labels: Tensor, share: float, valid: Tensor | None = None) -> Tensor:
        """``x_m = (1 − f) · G(z_m) + f · x`` with ``z_m = (1 − f) · z' + f · z``, of the inputs' shape.

        Args:
            inputs: x, within the layout's bounds.
            labels: ``int64 [B, *]``.
            share: f in [0, 1].
            valid: ``bool [B, *]``, or ``None``.
        """
        hot = self.layout.one_hot(labels, valid)
        real = inputs.float()
        latents, anchored = self.latents(real, hot)
        return mixed(self.generator(mixed(anchored, latents, share), hot), real, share)
