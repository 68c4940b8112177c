"""What is measured: each metric's unit, direction and items, and what each task is judged by."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

Task = Literal["rl", "seg"]


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number that records hold.

    Attributes:
        name: As in records.
        title: For people.
        unit: What one is, in words; empty for a fraction.
        is_fraction: Whether 1 is 100 %, so that it is shown in per cent.
        higher_is_better: The direction.
        has_common_unit: Whether it may be averaged over targets: returns of two games have no common unit.
        items: The array of ``items.npz`` that it can be computed anew from, or ``None``.
        is_share: Whether it lies between 0 and 1, so that no interval of it reaches further.
    """

    name: str
    title: str
    unit: str = ""
    is_fraction: bool = True
    higher_is_better: bool = True
    has_common_unit: bool = True
    items: str | None = None
    is_share: bool = False

    @property
    def heading(self) -> str:
        """Title, unit and, where less is better, the direction.

        >>> metric("miou").heading, metric("nll").heading
        ('mIoU (%)', 'NLL (nats, less is better)')
        """
        unit = "%" if self.is_fraction else self.unit
        direction = "" if self.higher_is_better else "less is better"
        notes = ", ".join(note for note in (unit, direction) if note)
        return f"{self.title} ({notes})" if notes else self.title


METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("miou", "mIoU", items="confusion", is_share=True),
        Metric("dice", "Dice", items="confusion", is_share=True),
        Metric("pixel_accuracy", "pixel accuracy", items="confusion", is_share=True),
        Metric("normalized_return", "normalised return", items="return"),
        Metric("normalized_return_paper", "normalised return, the papers' constants", items="return"),
        Metric("return", "return", unit="reward", is_fraction=False, has_common_unit=False, items="return"),
        *(
            one
            for suffix, after in (("", ""), ("_scaled", " at the fitted temperature"))
            for one in (
                Metric(f"ece{suffix}", f"ECE{after}", higher_is_better=False),
                Metric(f"ece_equal_mass{suffix}", f"ECE, bins of equal mass{after}", higher_is_better=False),
                Metric(f"nll{suffix}", f"NLL{after}", unit="nats", is_fraction=False, higher_is_better=False),
                Metric(f"brier{suffix}", f"Brier score{after}", is_fraction=False, higher_is_better=False),
            )
        ),
        Metric("weight_distance", "way of the weights", unit="of their first length", is_fraction=False),
        Metric("temperature", "fitted temperature", is_fraction=False),
    )
}


def metric(name: str) -> Metric:
    """The metric of that name; one that the table lacks is taken as it is: no fraction, more is better.

    >>> metric("iou/nucleus").title
    'IoU nucleus'
    """
    if name in METRICS:
        return METRICS[name]
    if name.startswith("iou/"):
        return Metric(name, f"IoU {name.removeprefix('iou/')}", items="confusion", is_share=True)
    return Metric(name, name, unit="as recorded", is_fraction=False, has_common_unit=False)


@dataclasses.dataclass(frozen=True)
class TaskFacts:
    """What the report and the programs need to know of a task.

    Attributes:
        title: For people.
        judged_by: Metrics, the first of which that every run has is the headline.
        steps: What a step is, in the plural.
        items: What is tested on, in the plural.
    """

    title: str
    judged_by: Sequence[str]
    steps: str
    items: str


TASKS: Mapping[Task, TaskFacts] = {
    "seg": TaskFacts("segmentation", ("miou",), "gradient steps", "images"),
    "rl": TaskFacts("reinforcement learning", ("normalized_return", "return"), "environment steps", "episodes"),
}
