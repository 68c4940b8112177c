"""Aggregated scores of a method and differences between methods, each with its interval."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.evaluation.bootstrap import Runs, hierarchical_bootstrap
from common.evaluation.statistics import Interval
from common.evaluation.uncertainty import jackknife, spread, t_interval, t_p_value
from common.report.items import read_items
from common.report.results import Domain
from common.report.settings import AGGREGATES, STATISTICS, Aggregate, Setting

Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Part:
    """A setting's scores on some domains, with their resamples.

    Attributes:
        setting: Where the runs are.
        domains: A run's score is the mean over these.
        resamples: Label → scores of the drawn runs ``[R, S]``, of methods whose runs all left their items.
        clusters: Label → the fewest clusters of items that a run was measured on.
    """

    setting: Setting
    domains: Sequence[Domain]
    resamples: Mapping[str, Floats]
    clusters: Mapping[str, int]

    def scores(self, label: str) -> Floats:
        """A score per run, seeds ascending ``[S]``."""
        return self.setting.scores(label, self.domains)

    def seeds(self, label: str) -> list[int]:
        """Seeds of a method's runs, ascending."""
        return sorted(self.setting.methods[label])


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An aggregated score or difference.

    Without items of every run there is neither interval nor p-value. Where a method has one seed, there is no p-value,
    and the interval covers no more of it than the choice of items.
    """

    value: float
    interval: Interval | None
    p_value: float | None


def resample(setting: Setting, domains: Sequence[Domain], *, resamples: int, seed: int) -> Part:
    """Bootstrap the scores of every method of a setting on some domains."""
    methods: dict[str, Runs] = {}
    for label, results in setting.methods.items():
        runs = {
            run_seed: [items for domain in domains if (items := read_items(setting, result, domain)) is not None]
            for run_seed, result in results.items()
        }
        if domains and all(len(items) == len(domains) for items in runs.values()):
            methods[label] = runs
    drawn = (
        hierarchical_bootstrap(methods, STATISTICS[setting.metric], resamples=resamples, seed=seed) if methods else {}
    )
    clusters = {
        label: min(len(items.clusters) for run in runs.values() for items in run) for label, runs in methods.items()
    }
    return Part(setting, domains, drawn, clusters)


def aggregate(parts: Sequence[Part]) -> Aggregate:
    """How runs of this task are aggregated."""
    return AGGREGATES[parts[0].setting.task]


def score(label: str, parts: Sequence[Part]) -> Estimate:
    """A method's score, aggregated over its runs in all parts; a share's interval ends where shares do."""
    value = _observed(label, parts)
    drawn = _resampled(label, parts)
    if drawn is None:
        return Estimate(value, None, None)
    found = _estimate(value, drawn, _moves(label, parts), _clusters([label], parts))
    if found.interval is None or not all(part.setting.measure.is_share for part in parts):
        return found
    low, high = np.clip(found.interval, 0.0, 1.0).tolist()
    return dataclasses.replace(found, interval=Interval(low, high))


def difference(label: str, reference: str, parts: Sequence[Part]) -> Estimate:
    """A method's score minus the reference's; where both have the same seeds, runs of a seed are pairs."""
    value = _observed(label, parts) - _observed(reference, parts)
    ours, theirs = _resampled(label, parts), _resampled(reference, parts)
    if ours is None or theirs is None:
        return Estimate(value, None, None)
    strata: list[Floats] = []
    for part, mine, other in zip(parts, _moves(label, parts), _moves(reference, parts), strict=True):
        paired = part.seeds(label) == part.seeds(reference)
        strata += [mine - other] if paired else [mine, other]
    return _estimate(value, ours - theirs, strata, _clusters([label, reference], parts))


def _estimate(value: float, drawn: Floats, moves: Sequence[Floats], clusters: int) -> Estimate:
    if np.isnan(drawn).all() or np.isnan(value):
        return Estimate(value, None, None)
    found = spread(drawn, moves, clusters)
    repeated = all(len(values) > 1 for values in moves)
    return Estimate(value, t_interval(value, found), t_p_value(value, found) if repeated else None)


def _observed(label: str, parts: Sequence[Part]) -> float:
    return over_runs((part.scores(label) for part in parts), aggregate(parts))


def over_runs(scores: Iterable[Floats], how: Callable[[Floats], object]) -> float:
    """Aggregate the runs of several parts; NaN if any is: a trimmed mean would sort it to the end and cut it off."""
    runs = np.concatenate(list(scores))
    return float("nan") if np.isnan(runs).any() else float(how(runs))  # type: ignore[arg-type]


def _moves(label: str, parts: Sequence[Part]) -> list[Floats]:
    return jackknife([part.scores(label) for part in parts], aggregate(parts))


def _resampled(label: str, parts: Sequence[Part]) -> Floats | None:
    """Aggregated score in each resample ``[R]``, ``None`` if any run lacks items."""
    if not all(label in part.resamples for part in parts):
        return None
    drawn: Floats = aggregate(parts)(np.concatenate([part.resamples[label] for part in parts], axis=1))
    return drawn


def _clusters(labels: Sequence[str], parts: Sequence[Part]) -> int:
    return min(part.clusters[label] for part in parts for label in labels)
