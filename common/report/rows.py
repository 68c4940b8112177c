"""Tables of a comparison: their rows, one table a setting, and one over the targets of several."""

import dataclasses
from collections.abc import Mapping, Sequence

from common.evaluation.statistics import LEVEL, Interval
from common.report.results import Domain
from common.report.settings import Setting

DomainScores = dict[Domain, tuple[float, Interval | None]]

FEW_SEEDS = 5
"""Below this many seeds a verdict is marked (see :attr:`Difference.verdict`)."""


@dataclasses.dataclass(frozen=True)
class Difference:
    """A method against the reference, on the unseen domains.

    Attributes:
        value: Aggregated score of the method minus that of the reference.
        interval: 95 % interval of it; ``None`` without ``items.npz``.
        probability: Probability that a run of the method beats a run of the reference.
        probability_interval: 95 % interval of it.
        p_value: Two-sided, of the same t statistic as the interval; ``None`` without items or with one seed.
        adjusted: ``p_value`` after Holm's correction over methods and targets.
        fewest_seeds: The smaller number of seeds of the two (the smallest over targets).
        higher_is_better: Of the metric.
        is_oracle: Whether the target's labels chose the method's weights; it has no p-value then.
    """

    value: float
    interval: Interval | None
    probability: float
    probability_interval: Interval | None
    p_value: float | None
    adjusted: float | None
    fewest_seeds: int
    higher_is_better: bool = True
    is_oracle: bool = False

    @property
    def verdict(self) -> str:
        """``better``, ``worse`` or ``undecided`` at 5 % after Holm, or why there is none.

        An oracle has seen the target: what it gains is shown, and claimed of nothing.

        With few seeds a decision is marked: its interval rests on the assumption that scores are normal over seeds,
        which so few cannot show.
        """
        if self.is_oracle:
            return "oracle"
        if self.fewest_seeds < 2:
            return "one seed"
        if self.adjusted is None:
            return "no interval"
        if self.adjusted > LEVEL or self.value == 0:
            return "undecided"
        word = "better" if (self.value > 0) == self.higher_is_better else "worse"
        return f"{word} (few seeds)" if self.fewest_seeds < FEW_SEEDS else word


@dataclasses.dataclass(frozen=True)
class Row:
    """One method in one setting, or over all targets.

    Attributes:
        label: The method, with its choice of weights unless those are the last.
        is_reference: Whether the others are compared with this one.
        seeds: Number of runs per target (the fewest over targets).
        targets: Number of targets aggregated.
        seen: Aggregated score on the domains trained on; NaN where none was tested.
        unseen: Aggregated score on the unseen domains.
        unseen_interval: 95 % interval of ``unseen``.
        unseen_error: Standard error of ``unseen`` over seeds; NaN for one seed or several targets.
        difference: Against the reference; ``None`` for the reference itself or without one.
        cost: Median seconds of training over those of the reference.
        extra: Other metrics, on the unseen domains.
    """

    label: str
    is_reference: bool
    seeds: int
    targets: int
    seen: float
    unseen: float
    unseen_interval: Interval | None
    unseen_error: float
    difference: Difference | None
    cost: float | None
    extra: Mapping[str, float]

    @property
    def gap(self) -> float:
        """Seen minus unseen: where more is better, how much is lost on unseen domains."""
        return self.seen - self.unseen


@dataclasses.dataclass(frozen=True)
class SettingTable:
    """One setting: a row per method, and each method's score on each domain with its 95 % interval."""

    setting: Setting
    rows: Sequence[Row]
    domains: Mapping[str, DomainScores]


@dataclasses.dataclass(frozen=True)
class TargetsTable:
    """Several settings that differ in their target, aggregated; ``differs`` tells it from others of its name."""

    settings: Sequence[Setting]
    rows: Sequence[Row]
    differs: str = ""

    @property
    def name(self) -> str:
        """The title without what sets it apart."""
        first = self.settings[0]
        return f"{first.task} · all {len(self.settings)} targets · {first.network}"

    @property
    def title(self) -> str:
        """The settings in one line."""
        return self.name + self.differs

    @property
    def reference(self) -> str:
        """Label of the row that the others are compared with, or what was asked for where there is none."""
        return next((row.label for row in self.rows if row.is_reference), self.settings[0].reference)
