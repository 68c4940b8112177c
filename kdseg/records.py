"""What a segmentation run records: rows, arrays for later statistics, and the table that a user sees."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.evaluation.segmentation import scores
from common.runs.items import item_key
from common.runs.records import LAST, Judged, Record, Split, library_versions
from kdseg.domains.datamodule import Part, SegmentationData
from kdseg.domains.images import to_be_seen
from kdseg.measure import Measured
from kdseg.settings import TrainSettings

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
        "image": np.stack([middle(to_be_seen(sample.image)) for sample in samples]),
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
