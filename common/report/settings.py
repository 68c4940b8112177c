"""Settings: runs that may be compared, because they differ in method and seed alone."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.evaluation.bootstrap import Statistic, mean_value, pooled_mean_iou
from common.evaluation.statistics import interquartile_mean
from common.report.labels import Leaves
from common.report.results import Domain, Result
from common.runs.metrics import TASKS, Metric, Task, metric
from common.runs.records import ORACLE

Aggregate = Callable[[NDArray[np.float64]], Any]
"""From scores of runs ``[..., S]`` to one number ``[...]``."""

Methods = Mapping[str, Mapping[int, Result]]
"""Label of a row → seed → result."""


def mean_over_runs(runs: NDArray[np.float64]) -> Any:
    """``[..., S]`` → ``[...]``."""
    return runs.mean(axis=-1)


AGGREGATES: Mapping[Task, Aggregate] = {"seg": mean_over_runs, "rl": interquartile_mean}
STATISTICS: Mapping[str, Statistic] = {
    "miou": pooled_mean_iou,
    "normalized_return": mean_value,
    "return": mean_value,
}
"""Metric → how it follows from items."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs of one task, network, training domains and target, and of one setting in their identities.

    Attributes:
        task: ``rl`` or ``seg``.
        network: The student's network.
        source: Domains trained on.
        target: What the runs are judged on.
        metric: The main metric all runs have.
        reference: Label of the row that all others are compared with, or what was asked for where there is none.
        methods: Label → seed → result; the reference first, the others by name.
        seen: Domains that training saw and every run was measured on.
        unseen: Domains that make up the headline: the target where every run has it, else all unseen ones they share.
        others: Further unseen domains that every run was measured on.
        key: Of the identities' setting; empty for runs of before there were identities.
        leaves: What the identities say of the setting.
        candidates: Labels of the rows that may all be meant by the reference that was asked for, where none is it.
        differs: What is put behind its name to tell it from others of that name.
    """

    task: Task
    network: str
    source: tuple[str, ...]
    target: str
    metric: str
    reference: str
    methods: Methods
    seen: Sequence[Domain]
    unseen: Sequence[Domain]
    others: Sequence[Domain]
    key: str = ""
    leaves: Leaves = dataclasses.field(default_factory=dict)
    candidates: Sequence[str] = ()
    differs: str = ""

    @property
    def domains(self) -> list[Domain]:
        """Every domain all runs share: seen, headline, other unseen ones."""
        return [*self.seen, *self.unseen, *self.others]

    def is_oracle(self, label: str) -> bool:
        """Whether a row's weights were chosen by the target's labels."""
        return any(result.last.selection == ORACLE for result in self.methods[label].values())

    @property
    def measure(self) -> Metric:
        """What the main metric is."""
        return metric(self.metric)

    @property
    def has_reference(self) -> bool:
        """Whether there is something to compare with."""
        return self.reference in self.methods

    @property
    def name(self) -> str:
        """The title without what sets it apart."""
        return f"{self.task} · {self.target} · {self.network} · trained on {', '.join(self.source)}"

    @property
    def title(self) -> str:
        """The setting in one line."""
        return self.name + self.differs

    @property
    def short(self) -> str:
        """The setting in a few words."""
        return f"{self.task} · {self.target}{self.differs}"

    def results(self) -> Iterator[Result]:
        """Every run, method by method."""
        for runs in self.methods.values():
            yield from runs.values()

    def scores(self, label: str, domains: Sequence[Domain], metric: str | None = None) -> NDArray[np.float64]:
        """A score per run ``[S]``, seeds ascending: the mean over the domains, NaN where one lacks the metric."""
        runs = self.methods[label]
        name = metric or self.metric
        if not domains:
            return np.full(len(runs), np.nan)
        return np.array(
            [
                np.mean([runs[seed].scores[domain].get(name, np.nan) for domain in domains], dtype=np.float64)
                for seed in sorted(runs)
            ]
        )


def make_setting(methods: Methods, reference: str, leaves: Leaves) -> Setting:
    """A setting of rows whose runs agree in all that a setting is.

    Args:
        methods: Label → seed → result.
        reference: Label of the row that the others are compared with.
        leaves: What the identities say of the setting.
    """
    results = [result for runs in methods.values() for result in runs.values()]
    row = results[0].last
    judged_by = TASKS[row.task].judged_by
    metrics = [name for name in judged_by if all(_has(result, name) for result in results)]
    main = (metrics or judged_by)[0]
    shared = [domain for domain in results[0].scores if all(_measured(result, domain, main) for result in results)]
    unseen = [domain for domain in shared if not domain.seen]
    headline = [domain for domain in unseen if domain.name == row.target] or unseen
    return Setting(
        task=row.task,
        network=row.network,
        source=tuple(row.source),
        target=row.target,
        metric=main,
        reference=reference,
        methods={label: methods[label] for label in sorted(methods, key=lambda one: (one != reference, one))},
        seen=sorted(domain for domain in shared if domain.seen),
        unseen=sorted(headline),
        others=sorted(domain for domain in unseen if domain not in headline),
        key=results[0].setting_key,
        leaves=leaves,
    )


def _has(result: Result, name: str) -> bool:
    return any(name in scores for domain, scores in result.scores.items() if not domain.seen)


def _measured(result: Result, domain: Domain, name: str) -> bool:
    return name in result.scores.get(domain, {})
