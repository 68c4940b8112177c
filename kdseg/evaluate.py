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
from rich.table import Table

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
from kdseg.measure import Measured, measure, validated_temperature
from kdseg.settings import EvaluateSettings, TrainSettings

PICTURE_SIDE = 256


def rows(
    settings: TrainSettings, data: SegmentationData, measured: Measured, split: Split, judged: Judged
) -> list[Record]:
    """Records of one part: every score of its pooled confusion matrix, and calibration."""
    values = scores(measured.confusions.sum(axis=0), data.class_names)
    for suffix, counted in zip(("", "_scaled"), measured.calibration, strict=False):
        values |= {f"{name}{suffix}": value for name, value in counted.scores().items()}
    if measured.temperature is not None:
        values["temperature"] = measured.temperature
    return [
        score_row(settings, data, measured.part, split, metric, value, judged)
        for metric, value in values.items()
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
            "calibration": np.stack([counted.table for counted in result.calibration]),
            "item": np.array([item.name for item in known]),
            "group": np.array([item.group for item in known]),
            **_pictures(result),
        }
        if selection != LAST:
            named = {name: named[name] for name in ("confusion", "calibration", "prediction")}
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
    """The table a user sees at the end: pooled scores and calibration error per domain."""
    which = "" if selection == LAST else f", {selection} weights"
    table = Table(title=escape(f"Target {data.target_name}, trained on {', '.join(data.source_names)}{which}"))
    for heading in ("domain", "", "mIoU", "Dice", "pixel accuracy", "ECE", "images"):
        table.add_column(heading, justify="left" if heading in ("domain", "") else "right")
    for result in measured:
        values = scores(result.confusions.sum(axis=0), data.class_names)
        cells = [f"{values[name]:.3f}" for name in ("miou", "dice", "pixel_accuracy")]
        cells.append(f"{result.calibration[0].scores().get('ece', float('nan')):.3f}")
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
    temperature = _temperature(source, selection) or validated_temperature(network, data, device)
    measured = [measure(network, data, part, device, console, temperature) for part in data.test_parts]
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


def _temperature(source: Run, selection: str) -> float | None:
    """What the run's test fitted: the images that it was fitted on need not be here."""
    found = (row.value for row in source.records() if (row.metric, row.selection) == ("temperature", selection))
    return next((value for value in found if value > 0), None)


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
