"""What an artefact does to samples of the student's domain, in numbers and in pictures."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from common.augkd.artefact import Artefact
from common.augkd.losses import Uncertainty, uncertainty
from common.augkd.stages import Sample
from common.losses import mean_over_valid
from common.teacher import Teacher

PANELS = ("real", "before the anchor", "after the anchor", "generated")
"""A sample x, ``G(z)`` of its latent, ``G(z')`` of its anchored one, and ``G`` of noise."""
SHOWN = 8


@torch.no_grad()
def measure(
    artefact: Artefact, teacher: Teacher, samples: Iterable[Sample], kind: Uncertainty
) -> tuple[dict[str, float], dict[str, NDArray[Any]]]:
    """The teacher's uncertainty, confidence and agreement with the labels on each of :data:`PANELS`.

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


def draw(samples: Mapping[str, NDArray[Any]]) -> Figure:
    """The samples, a column each, a row a panel, with the teacher's confidence above each picture."""
    images, confidence = samples["images"], samples["confidence"]
    count, panels = images.shape[:2]
    figure = Figure(figsize=(1.3 * count + 0.8, 1.6 * panels), layout="constrained")
    grid = figure.subplots(panels, count, squeeze=False)
    for row in range(panels):
        for column in range(count):
            axes = grid[row, column]
            axes.imshow(images[column, row], interpolation="nearest")
            axes.set_title(f"{confidence[column, row]:.2f}", fontsize=8)
            axes.set_xticks([])
            axes.set_yticks([])
        grid[row, 0].set_ylabel(PANELS[row], fontsize=8)
    return figure
