"""What a network does on images of one domain: confusion matrices, calibration and a few pictures, in one pass."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from torch import Tensor, nn

from common.evaluation.calibration import Calibration, measure_calibration
from common.evaluation.segmentation import mean_iou
from common.evaluation.temperature import LogitSample
from kdseg.domains.datamodule import Part, SegmentationData
from kdseg.domains.sample import IGNORE
from kdseg.metrics import batch_confusion, no_confusion

PICTURES, UNSEEN_PICTURES = 4, 8
SOME = 48
"""What a temperature is fitted on, and a teacher looked at; more images make neither any surer."""


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
def _of_validation(
    network: nn.Module, data: SegmentationData, device: torch.device, most: int
) -> Iterator[tuple[Part, int, Tensor, Tensor]]:
    """Part, index, logits ``[C, H, W]`` and mask of some validation images of each domain that is trained on."""
    training = network.training
    network.to(device).eval()
    for part in data.validation_parts:
        for position in evenly(len(part.dataset), max(1, most // len(data.validation_parts))):
            entry = part.dataset[position]
            logits = network(entry["image"][None].to(device)).float()[0]
            yield part, int(entry["index"]), logits, entry["mask"].to(device)
    network.train(training)


def validated_temperature(
    network: nn.Module, data: SegmentationData, device: torch.device, most: int = SOME
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
    for _, index, logits, mask in _of_validation(network, data, device, most):
        sample.add(logits, mask, mask != IGNORE, index)
    return sample.temperature()


def glimpse(
    network: nn.Module, data: SegmentationData, device: torch.device, most: int = SOME
) -> dict[str, tuple[float, int]]:
    """Source domain → mean IoU on some of its validation images, and how many; arguments as above.

    Enough to see that a network is not what was meant: all of them can take as long as a training.
    """
    found: dict[str, tuple[Tensor, int]] = {}
    for part, _, logits, mask in _of_validation(network, data, device, most):
        confusion, count = found.get(part.domain, (no_confusion(data.num_classes, device), 0))
        found[part.domain] = confusion + batch_confusion(logits[None], mask[None], data.num_classes)[0], count + 1
    return {domain: (float(mean_iou(confusion.cpu().numpy())), count) for domain, (confusion, count) in found.items()}


def evenly(count: int, most: int) -> Sequence[int]:
    """At most so many positions of ``count``, evenly spread."""
    return sorted({round(position) for position in np.linspace(0, count - 1, min(most, count))})


def picture_positions(part: Part) -> Sequence[int]:
    """The images of a part that pictures are kept of."""
    return evenly(len(part.dataset), PICTURES if part.seen else UNSEEN_PICTURES)
