"""Segmentation quality per domain, from per-image confusion matrices: kdseg-evaluate."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from rich.table import Table
from torch import nn

from common.application import run as run_application
from common.configuration import to_yaml
from common.device import pick_device
from common.errors import InputError
from common.evaluation.segmentation import scores
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.items import item_key
from common.runs.records import Judged, Record, Split, library_versions
from common.runs.weights import LAST, choose_weights
from kdseg.configured import make_data
from kdseg.domains.datamodule import Part, SegmentationData
from kdseg.domains.held_out import read_images
from kdseg.metrics import batch_confusion
from kdseg.settings import EvaluateSettings, TrainSettings

PICTURES, PICTURE_SIDE = 4, 256


@dataclasses.dataclass
class Measured:
    """What a network does on one part of the data.

    Attributes:
        part: The images.
        confusions: ``int64 [N, C, C]`` per image, rows true class, in the data set's order.
        predictions: ``uint8 [H, W]`` of the few images kept as pictures, by position.
    """

    part: Part
    confusions: NDArray[np.int64]
    predictions: dict[int, NDArray[np.uint8]]


@torch.no_grad()
def measure(network: nn.Module, data: SegmentationData, part: Part, device: torch.device, console: Console) -> Measured:
    """Predict every image of a part, whole, in eval mode.

    Args:
        network: From normalised images to logits of their size; put into eval mode, and back.
        data: Where the part belongs.
        part: The images.
        device: Where to compute.
        console: Where the progress bar goes.
    """
    dataset = part.dataset
    kept = set(_picture_positions(part))
    confusions = np.zeros((len(dataset), data.num_classes, data.num_classes), dtype=np.int64)
    predictions: dict[int, NDArray[np.uint8]] = {}
    training = network.training
    network.to(device).eval()
    loader = data.eval_dataloader(dataset)
    for batch in track(loader, f"testing {escape(part.domain)}", console=console, transient=True):
        logits = network(batch["image"].to(device)).float()
        positions = (batch["index"] - dataset.first_index).tolist()
        confusions[positions] = batch_confusion(logits, batch["mask"].to(device), data.num_classes).cpu().numpy()
        for row, position in enumerate(positions):
            if position in kept:
                predictions[position] = logits[row].argmax(dim=0).to(torch.uint8).cpu().numpy()
    network.train(training)
    return Measured(part, confusions, predictions)


def _picture_positions(part: Part) -> list[int]:
    """A few images of the part, evenly spread."""
    count = len(part.dataset)
    return sorted({round(position) for position in np.linspace(0, count - 1, min(PICTURES, count))})


def rows(
    settings: TrainSettings, data: SegmentationData, measured: Measured, split: Split, judged: Judged
) -> list[Record]:
    """Records of one part: every score of its pooled confusion matrix."""
    pooled = measured.confusions.sum(axis=0)
    return [
        score_row(settings, data, measured.part, split, metric, value, judged)
        for metric, value in scores(pooled, data.class_names).items()
        if not np.isnan(value)  # a class that is neither there nor predicted has no score
    ]


def score_row(
    settings: TrainSettings,
    data: SegmentationData,
    part: Part,
    split: Split,
    metric: str,
    value: float,
    judged: Judged,
) -> Record:
    """One record of a segmentation run, measured on all images of a part."""
    return Record(
        task="seg",
        method=str(settings.method["name"]),
        seed=settings.seed,
        source=list(data.source_names),
        target=data.target_name,
        domain=part.domain,
        seen=part.seen,
        split=split,
        metric=metric,
        value=float(value),
        n=len(part.dataset),
        network=settings.network.name,
        versions=library_versions(),
        **dataclasses.asdict(judged),
    )


def items(data: SegmentationData, measured: Sequence[Measured], selection: str = LAST) -> dict[str, NDArray[Any]]:
    """Arrays for ``items.npz``: confusion matrices, names, groups and a few pictures of each part.

    Of another selection than the last weights, only what differs from theirs.
    """
    arrays: dict[str, NDArray[Any]] = {"class_names": np.array(data.class_names)}
    for result in measured:
        part = result.part
        known = part.dataset.items
        named = {
            "confusion": result.confusions,
            "item": np.array([item.name for item in known]),
            "group": np.array([item.group for item in known]),
            **_pictures(result),
        }
        if selection != LAST:
            named = {name: named[name] for name in ("confusion", "prediction")}
        arrays |= {item_key(name, part.domain, part.seen, selection): array for name, array in named.items()}
    return arrays


def _pictures(result: Measured) -> dict[str, NDArray[np.uint8]]:
    """Images, masks and predictions cut to one size, from their middles."""
    positions = sorted(result.predictions)
    samples = [result.part.dataset.sample(position) for position in positions]
    height = min(PICTURE_SIDE, *(sample.mask.shape[0] for sample in samples))
    width = min(PICTURE_SIDE, *(sample.mask.shape[1] for sample in samples))

    def middle(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
        top, left = (array.shape[0] - height) // 2, (array.shape[1] - width) // 2
        return array[top : top + height, left : left + width]

    return {
        "image": np.stack([middle(sample.image) for sample in samples]),
        "mask": np.stack([middle(sample.mask) for sample in samples]),
        "prediction": np.stack([middle(result.predictions[position]) for position in positions]),
    }


def print_scores(console: Console, data: SegmentationData, measured: Iterable[Measured], selection: str = LAST) -> None:
    """The table a user sees at the end: pooled scores per domain."""
    which = "" if selection == LAST else f", {selection} weights"
    table = Table(title=escape(f"Target {data.target_name}, trained on {', '.join(data.source_names)}{which}"))
    for heading in ("domain", "", "mIoU", "Dice", "pixel accuracy", "images"):
        table.add_column(heading, justify="left" if heading in ("domain", "") else "right")
    for result in measured:
        values = scores(result.confusions.sum(axis=0), data.class_names)
        cells = [f"{values[name]:.3f}" for name in ("miou", "dice", "pixel_accuracy")]
        part = result.part
        table.add_row(escape(part.domain), "seen" if part.seen else "unseen", *cells, str(len(result.confusions)))
    console.print(table)


def evaluate(settings: EvaluateSettings) -> None:
    """Test a finished run's network and print, and with ``out`` record, its scores.

    Domains that the run was trained on are judged on the images that it held out, others on all that it was not
    trained on.

    Raises:
        InputError: no finished segmentation run there, weights or a domain or folder that do not exist, other
            classes in the data, nothing that was not trained on, or an ``out`` that holds something.
    """
    from kdseg.restore import load_network

    source = Run(settings.run)
    network, trained = load_network(source, settings.weights)
    status = source.check_finished(f"run={settings.run}", settings.unfinished)
    selection = choose_weights(source, settings.weights)
    if trained.channels_last:  # other kernels round otherwise: use those of the run
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    out = None if settings.out is None else Run(settings.out)
    if out is not None:
        out.check_new()
    for key in ("target", "root"):
        value = getattr(settings, key)
        if value is not None:
            trained.data[key] = str(Path(value)) if key == "root" else value
    console = Console()
    data = _judged_data(source, trained, console)
    device = pick_device(settings.device)
    measured = [measure(network, data, part, device, console) for part in data.test_parts]
    print_scores(console, data, measured, selection)
    console.print(f"weights: {selection}")
    if out is not None:
        identity = _judged_identity(source, data)
        judged = Judged(
            status.steps, status.seconds, selection, "" if identity is None else identity.key, status.resumed
        )
        found = [row for result in measured for row in rows(trained, data, result, "test", judged)]
        out.keep_evaluation(to_yaml(trained), identity, status, items(data, measured), found)
        console.print(f"records in {out.path}", markup=False, soft_wrap=True)


def _judged_data(source: Run, trained: TrainSettings, console: Console) -> SegmentationData:
    """The images to judge a run on; tells what is passed over."""
    images = read_images(source)
    node = dict(trained.data)
    if images is None:
        data = make_data(node)
        notes = ["the run has no list of its images: whether it was trained on some of these cannot be checked"]
    else:
        if "class_names" in node:  # the masks of what is judged need not hold every class
            node["class_names"] = trained.classes
        data = make_data(node, images=images)
        notes = data.notes
    if data.class_names != trained.classes:
        raise InputError(f"the data's classes are {data.class_names}, the network's {trained.classes}")
    for note in notes:
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    return data


def _judged_identity(source: Run, data: SegmentationData) -> Identity | None:
    """The run's own, on the domains it is judged on now; ``None`` for a run of before there were identities."""
    identity = source.judged_identity()
    if identity is None:
        return None
    domains = {"target": data.target_name, "sources": list(data.source_names), "files": data.fingerprints()}
    return dataclasses.replace(identity, domains=domains)


def main() -> None:
    """Entry point of ``kdseg-evaluate``."""
    run_application("kdseg/evaluate", EvaluateSettings, evaluate)


if __name__ == "__main__":
    main()
