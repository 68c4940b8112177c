"""From a run's arrays to what the bootstrap draws: images by group, episodes by level."""

from collections.abc import Sequence

import numpy as np

from common.evaluation.bootstrap import Items
from common.report.results import Domain, Result
from common.report.settings import STATISTICS, Setting


def read_items(setting: Setting, result: Result, domain: Domain) -> Items | None:
    """What a run scored on a domain, by cluster; ``None`` where ``items.npz`` lacks it or contradicts the record."""
    if setting.metric not in STATISTICS:
        return None
    confusions = setting.measure.items == "confusion"
    items = _images(result, domain) if confusions else _episodes(setting, result, domain)
    if items is None:
        return None
    value = float(STATISTICS[setting.metric](items.sums.sum(0)[None])[0])
    recorded = result.scores[domain][setting.metric]
    return items if np.isclose(value, recorded, rtol=1e-4, atol=1e-5) else None


def _images(result: Result, domain: Domain) -> Items | None:
    confusion = result.array("confusion", domain)
    if confusion is None or not len(confusion):
        return None
    groups = _labels(result, domain, ("group", "item"), len(confusion))
    return Items.grouped(domain.name, groups, confusion.reshape(len(confusion), -1))


def _episodes(setting: Setting, result: Result, domain: Domain) -> Items | None:
    returns = result.array("return", domain)
    if returns is None or not len(returns):
        return None
    if setting.metric == "normalized_return":
        scale = _normalisation(setting)
        if scale is None:
            return None
        returns = returns * scale[0] + scale[1]
    values = np.stack([returns, np.ones(len(returns))], axis=1)
    return Items.grouped(domain.name, _labels(result, domain, ("level",), len(returns)), values)


def _labels(result: Result, domain: Domain, names: Sequence[str], count: int) -> Sequence[object]:
    for name in names:
        labels = result.array(name, domain)
        if labels is not None:
            return list(labels.tolist())
    return range(count)


def _normalisation(setting: Setting) -> tuple[float, float] | None:
    """Slope and offset of a game's normalisation, from the records.

    Episodes are stored as raw returns and the normalised return is an affine function of them, so two recorded pairs
    of means fix it; the caller checks the outcome against the record. ``None`` where no two returns differ.
    """
    pairs = sorted(
        (scores["return"], scores["normalized_return"])
        for result in setting.results()
        for scores in result.scores.values()
        if "return" in scores and "normalized_return" in scores
    )
    if not pairs or np.isclose(pairs[0][0], pairs[-1][0]):
        return None
    slope = (pairs[-1][1] - pairs[0][1]) / (pairs[-1][0] - pairs[0][0])
    return slope, pairs[0][1] - slope * pairs[0][0]
