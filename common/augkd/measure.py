"""What an artefact does to samples of the student's domain."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.augkd.artefact import Artefact
from common.augkd.losses import Uncertainty, uncertainty
from common.augkd.stages import Sample
from common.losses import mean_over_valid
from common.runs.items import PANELS
from common.teacher import Teacher

SHOWN = 8


@torch.no_grad()
def measure(
    artefact: Artefact, teacher: Teacher, samples: Iterable[Sample], kind: Uncertainty
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """The teacher's uncertainty, confidence and agreement with the labels on each of :data:`common.runs.items.PANELS`.

    Returns:
        ``<measure>/<panel>`` → mean over samples and valid positions, and of the first minibatch ``images``, uint8
        ``[K, 4, H, W, 3]``, with the teacher's ``confidence``, float ``[K, 4]``.
    """
    sums: dict[str, float] = {}
    kept: dict[str, NDArray[Any]] = {}
    count = 0
    for sample in samples:
        hot = artefact.layout.one_hot(sample.labels, sample.valid)
        panels = _panels(artefact, sample, hot)
        answers = [teacher(panel) for panel in panels]
        sure = [answer.float().softmax(dim=1).amax(dim=1) for answer in answers]
        for panel, answer, confidence in zip(PANELS, answers, sure, strict=True):
            right = (answer.argmax(dim=1) == sample.labels).float()
            for name, values in (
                (kind, uncertainty(answer, kind)),
                ("confidence", confidence),
                ("agreement", right),
            ):
                mean = float(mean_over_valid(values, sample.valid))
                sums[f"{name}/{panel}"] = sums.get(f"{name}/{panel}", 0.0) + mean
        if not kept:
            images = [_visible(artefact, panel[:SHOWN]) for panel in panels]
            means = [one[:SHOWN].reshape(len(one[:SHOWN]), -1).mean(dim=1).cpu().numpy() for one in sure]
            kept = {"images": np.stack(images, axis=1), "confidence": np.stack(means, axis=1).astype(np.float64)}
        count += 1
    return {name: total / count for name, total in sums.items()}, kept


def _panels(artefact: Artefact, sample: Sample, hot: Tensor) -> list[Tensor]:
    real = sample.inputs.float()
    latents, anchored = artefact.latents(real, hot)
    noise = torch.randn_like(latents)
    return [real, *(artefact.generator(vectors, hot) for vectors in (latents, anchored, noise))]


def _visible(artefact: Artefact, inputs: Tensor) -> NDArray[np.uint8]:
    """``uint8 [K, H, W, 3]`` of inputs within the layout's bounds; the first channels, or one three times."""
    scaled = ((inputs - artefact.generator.low) / artefact.generator.span).clamp(0, 1) * 255
    colours = scaled[:, :3] if scaled.shape[1] >= 3 else scaled[:, :1].expand(-1, 3, -1, -1)
    return colours.round().byte().permute(0, 2, 3, 1).cpu().numpy()
