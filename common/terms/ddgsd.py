"""Data-distortion guided self-distillation (DDGSD).

Xu, Liu: Data-Distortion Guided Self-Distillation for Deep Neural Networks, AAAI 2019.
"""

from typing import ClassVar

import torch
from torch import Tensor, nn

from common.arguments import NotNegative, Positive, Share
from common.distortion import photometric
from common.errors import InputError
from common.losses import full_precision, label_cross_entropy, mean_over_valid, symmetric_kl
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def masked_mean(features: Tensor, valid: Tensor | None) -> Tensor:
    """Mean ``[B, D]`` of ``features`` ``[B, D, *]`` over each sample's valid positions; zero where it has none."""
    features = full_precision(features).flatten(2) if features.dim() > 2 else full_precision(features)[..., None]
    if valid is None:
        return features.mean(dim=2)
    inside = valid.reshape(len(valid), 1, -1)
    return features.masked_fill(~inside, 0.0).sum(dim=2) / inside.sum(dim=2).clamp(min=1)


class DDGSD(Term):
    """``CE₂ + T² · [KL(p₁ ‖ p₂) + KL(p₂ ‖ p₁)] + μ · ‖f̄₁ − f̄₂‖²`` of two looks at the same samples.

    Look 1 is the batch as it came, and CE₁ is the task's own loss; look 2 is the same batch in other
    light. f̄ are the features before the head, averaged over positions. Gradients reach both looks.
    The extra cost is one pass of the network.

    Deviations. The paper distorts by cropping and flipping; here the second look is made by the term and is
    photometric (brightness, contrast, mild noise, see :func:`common.distortion.photometric`), so that positions
    stay aligned and the divergence has a meaning at every pixel. CE₂ is left out where there are no labels
    (PPO). The paper's feature loss is a maximum mean discrepancy between the two batches; ours compares each
    sample with itself, which is never smaller than the distance of the batches' means.
    Batch normalisation, where live, sees the second look too.

    Args:
        weight: Factor in the total loss.
        temperature: T, positive; the paper's 3.
        feature_weight: μ, not negative; the paper's 5e-4.
        brightness: Largest shift, in standard deviations of the sample.
        contrast: Largest change of contrast, in [0, 1).
        noise: Size of the noise, in standard deviations of the sample.

    Raises:
        InputError: a value outside its range, or (in :meth:`bind`) inputs that are not frames.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features", "look"})

    def __init__(
        self,
        weight: Weight = 1.0,
        temperature: Positive = 3.0,
        feature_weight: NotNegative = 5e-4,
        brightness: NotNegative = 0.4,
        contrast: Share = 0.4,
        noise: NotNegative = 0.05,
    ) -> None:
        super().__init__(weight)
        self.temperature = temperature
        self.feature_weight = feature_weight
        self.brightness, self.contrast, self.noise = brightness, contrast, noise

    def bind(self, network: nn.Module, view: View) -> None:
        """Refuse what has no light to change."""
        if view.inputs.dim() != 4:
            raise InputError(f"ddgsd distorts frames [B, C, H, W]; the inputs are {list(view.inputs.shape)}")

    def forward(self, view: View) -> TermOutput:
        """Per-position loss; logs how far the looks' classes and features are apart, and CE₂."""
        assert view.look is not None
        with torch.no_grad():
            distorted = photometric(view.inputs, self.brightness, self.contrast, self.noise)
        features, logits = view.look(distorted)
        loss = self.temperature**2 * symmetric_kl(view.logits, logits, self.temperature, view.valid)
        metrics = {}
        if view.log:
            disagreement = (view.logits.detach().argmax(dim=1) != logits.detach().argmax(dim=1)).float()
            metrics["disagreement"] = mean_over_valid(disagreement, view.valid)
        if view.targets is not None:
            second = label_cross_entropy(logits, view.labels(), view.valid)
            metrics["second_task"] = mean_over_valid(second.detach(), view.valid)
            loss = loss + second
        distance = self._distance(view, features)
        metrics["feature_distance"] = distance.detach().mean()
        return TermOutput(loss + self.feature_weight * distance.view(-1, *[1] * (loss.dim() - 1)), metrics)

    def _distance(self, view: View, features: Tensor) -> Tensor:
        """``‖f̄₁ − f̄₂‖²`` of each sample, ``[B]``."""
        valid = view.valid_on(features.shape[2:])
        return (masked_mean(view.features, valid) - masked_mean(features, valid)).square().sum(dim=1)
