"""What a network does on images of one domain: confusion matrices, calibration and a few pictures, in one pass."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import nn

from common.evaluation.calibration import Calibration, measure_calibration
from common.evaluation.temperature import LogitSample
from kdseg.domains.datamodule import Part, SegmentationData
from kdseg.domains.sample import IGNORE
from kdseg.metrics import batch_confusion

PICTURES, UNSEEN_PICTURES = 4, 8
# What a temperature is fitted on; more images make it no surer.
_FITTED_ON = 48


@dataclasses.dataclass
class Measured:
    """What a network does on one part of the data.

    Attributes:
        part: The images.
        confusions: ``int64 [N, C, C]`` per image, rows true class, in the data set's order.
        predictions: ``uint8 [H, W]`` of the few images kept as pictures, by position.
        calibration: Counters of all pixels: as they are and, where a temperature was given, at that temperature.
        temperature: The one that was given.
    """

    part: Part
    confusions: NDArray[np.int64]
    predictions: dict[int, NDArray[np.uint8]]
    calibration: list[Calibration]
    temperature: float | None = None


@torch.no_grad()
def measure(
    network: nn.Module,
    data: SegmentationData,
    part: Part,
    device: torch.device,
    console: Console,
    temperature: float | None = None,
) -> Measured:
    """Predict every image of a part, whole, in eval mode.

    Args:
        network: From normalised images to logits of their size; put into eval mode, and back.
        data: Where the part belongs.
        part: The images.
        device: Where to compute.
        console: Where the progress bar goes.
        temperature: That calibration is measured at too.
    """
    dataset = part.dataset
    kept = set(picture_positions(part))
    confusions = np.zeros((len(dataset), data.num_classes, data.num_classes), dtype=np.int64)
    predictions: dict[int, NDArray[np.uint8]] = {}
    temperatures = [1.0] if temperature is None else [1.0, temperature]
    calibration = [Calibration() for _ in temperatures]
    training = network.training
    network.to(device).eval()
    loader = data.eval_dataloader(dataset)
    for batch in track(loader, f"testing {escape(part.domain)}", console=console, transient=True):
        masks = batch["mask"].to(device)
        logits = network(batch["image"].to(device)).float()
        positions = (batch["index"] - dataset.first_index).tolist()
        confusions[positions] = batch_confusion(logits, masks, data.num_classes).cpu().numpy()
        for number, one in enumerate(temperatures):
            calibration[number] += measure_calibration(logits, masks, masks != IGNORE, one)
        for row, position in enumerate(positions):
            if position in kept:
                predictions[position] = logits[row].argmax(dim=0).to(torch.uint8).cpu().numpy()
    network.train(training)
    return Measured(part, confusions, predictions, calibration, temperature)


@torch.no_grad()
def validated_temperature(
    network: nn.Module, data: SegmentationData, device: torch.device, most: int = _FITTED_ON
) -> float | None:
    """One temperature for a network, fitted on some validation images of each domain it was trained on.

    Args:
        network: As in :func:`measure`.
        data: Whose validation images are used; the target's never are.
        device: Where to compute.
        most: Images in all, at least one a domain.

    Returns:
        ``None`` where there is no labelled validation image.
    """
    sample = LogitSample()
    training = network.training
    network.to(device).eval()
    for part in data.validation_parts:
        share = max(1, most // len(data.validation_parts))
        for position in evenly(len(part.dataset), share):
            entry = part.dataset[position]
            mask = entry["mask"].to(device)
            logits = network(entry["image"][None].to(device)).float()[0]
            sample.add(logits, mask, mask != IGNORE, entry["index"])
    network.train(training)
    return sample.temperature()


def evenly(count: int, most: int) -> Sequence[int]:
    """At most so many positions of ``count``, evenly spread."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(most, count))})


def picture_positions(part: Part) -> Sequence[int]:
    """The images of a part that pictures are kept of."""
    return evenly(len(part.dataset), PICTURES if part.seen else UNSEEN_PICTURES)
