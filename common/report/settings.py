"""Group results into settings: runs that may be compared because only method and seed differ."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.evaluation.bootstrap import Statistic, mean_value, pooled_mean_iou
from common.evaluation.statistics import interquartile_mean
from common.report.results import MAIN_METRICS, Domain, Result

Aggregate = Callable[[NDArray[np.float64]], Any]
"""From scores of runs ``[..., S]`` to one number ``[...]``."""


def mean_over_runs(runs: NDArray[np.float64]) -> Any:
    """``[..., S]`` → ``[...]``."""
    return runs.mean(axis=-1)


AGGREGATES: Mapping[str, Aggregate] = {"seg": mean_over_runs, "rl": interquartile_mean}
STATISTICS: Mapping[str, Statistic] = {"seg": pooled_mean_iou, "rl": mean_value}


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs of one task, network, training domains and target.

    Attributes:
        task: ``rl`` or ``seg``.
        network: The student's network.
        source: Domains trained on.
        target: What the runs are judged on.
        metric: The main metric all runs have.
        reference: Label of the method that all others are compared with.
        methods: Label → seed → result; the reference first, the others by name.
        seen: Domains that training saw and every run was measured on.
        unseen: Domains that make up the headline: the target where every run has it, else all unseen ones they share.
        others: Further unseen domains that every run was measured on.
    """

    task: str
    network: str
    source: tuple[str, ...]
    target: str
    metric: str
    reference: str
    methods: Mapping[str, Mapping[int, Result]]
    seen: Sequence[Domain]
    unseen: Sequence[Domain]
    others: Sequence[Domain]

    @property
    def domains(self) -> list[Domain]:
        """Every domain all runs share: seen, headline, other unseen ones."""
        return [*self.seen, *self.unseen, *self.others]

    @property
    def has_reference(self) -> bool:
        """Whether there is something to compare with."""
        return self.reference in self.methods

    @property
    def title(self) -> str:
        """The setting in one line."""
        return f"{self.task} · {self.target} · {self.network} · trained on {', '.join(self.source)}"

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


def settings(results: Sequence[Result], reference: str) -> list[Setting]:
    """Sort results into settings, by task, network, target and training domains.

    Args:
        results: Runs of any settings.
        reference: Label of the method that the others are compared with.
    """
    grouped: dict[tuple[str, str, str, tuple[str, ...]], list[Result]] = {}
    for result in results:
        row = result.last
        grouped.setdefault((row.task, row.network, row.target, tuple(row.source)), []).append(result)
    return [_setting(key, grouped[key], reference) for key in sorted(grouped)]


def _setting(key: tuple[str, str, str, tuple[str, ...]], results: Sequence[Result], reference: str) -> Setting:
    task, network, target, source = key
    methods: dict[str, dict[int, Result]] = {}
    for result in sorted(results, key=lambda one: (one.label != reference, one.label, one.last.seed)):
        methods.setdefault(result.label, {})[result.last.seed] = result
    metrics = [name for name in MAIN_METRICS[task] if all(_has(result, name) for result in results)]
    metric = (metrics or MAIN_METRICS[task])[0]
    shared = [domain for domain in results[0].scores if all(_measured(result, domain, metric) for result in results)]
    unseen = [domain for domain in shared if not domain.seen]
    headline = [domain for domain in unseen if domain.name == target] or unseen
    return Setting(
        task=task,
        network=network,
        source=source,
        target=target,
        metric=metric,
        reference=reference,
        methods=methods,
        seen=sorted(domain for domain in shared if domain.seen),
        unseen=sorted(headline),
        others=sorted(domain for domain in unseen if domain not in headline),
    )


def _has(result: Result, metric: str) -> bool:
    return any(metric in scores for domain, scores in result.scores.items() if not domain.seen)


def _measured(result: Result, domain: Domain, metric: str) -> bool:
    return metric in result.scores.get(domain, {})
