"""How the numbers of a report came about, in words, from the records alone."""

import html
from collections.abc import Iterable

from common.report.analysis import Analysis
from common.report.results import Result

_TASKS = {"seg": "segmentation", "rl": "reinforcement learning"}


def headline_sentence(analysis: Analysis) -> str:
    """What the report is about, in one sentence."""
    results = _results(analysis)
    runs = len({result.path for result in results})
    methods = sorted({result.last.method for result in results})
    tasks = " and ".join(sorted({_TASKS[result.last.task] for result in results}))
    return f"{runs} finished runs of {len(methods)} methods ({', '.join(methods)}) in {tasks}."


def conditions(analysis: Analysis) -> str:
    """The paragraph and list on methods and conditions, as HTML."""
    results = _results(analysis)
    items = [
        ("methods", _listing(result.label for result in results)),
        ("seeds", _listing(result.last.seed for result in results)),
        ("networks", _listing(result.last.network for result in results)),
        ("training steps", _steps(results)),
        ("test items per domain", _counts(results)),
        ("versions", _listing(f"{name} {v}" for result in results for name, v in result.last.versions.items())),
    ]
    listing = "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in items if value)
    return f"<h2>Methods and conditions</h2>\n<p>{html.escape(_prose(analysis))}</p>\n<dl>{listing}</dl>"


def _prose(analysis: Analysis) -> str:
    tasks = {table.setting.task for table in analysis.tables}
    sentences = []
    if "seg" in tasks:
        sentences.append(
            "Segmentation: the score of a run is the mean IoU of one confusion matrix pooled over a domain's test "
            "images, over the classes present; runs are averaged over seeds, targets with equal weight per run."
        )
    if "rl" in tasks:
        sentences.append(
            "Reinforcement learning: the score of a run is its mean episode return on a domain, normalised to the "
            "game's range where the records say so; runs (seeds and games) are aggregated by their interquartile "
            "mean (three runs or fewer: the mean)."
        )
    sentences.append(
        "Where several domains make up the seen or unseen score, a run's score is the mean over them. Standard errors "
        f"come from {analysis.resamples:,} bootstrap resamples that draw seeds first and test items second; images of "
        "one group and episodes of one level are drawn together, and methods that share seeds or items share the "
        "draws. The variance between seeds is corrected for their number, and 95 % intervals and p-values are "
        "Student's, with Satterthwaite's degrees of freedom (few seeds that disagree make them wide); intervals of "
        "probabilities are percentiles of the resamples. A verdict needs p ≤ 0.05 after Holm's correction over the "
        "targets of one task and network. Rows show the last weights of training unless they name others; "
        "this report selects nothing by its score on an unseen domain."
    )
    return " ".join(sentences)


def _results(analysis: Analysis) -> list[Result]:
    return [result for table in analysis.tables for result in table.setting.results()]


def _listing(values: Iterable[object]) -> str:
    # Numbers in their order, not as text: 2 before 10.
    unique = sorted(set(values), key=lambda value: (value, "") if isinstance(value, int) else (0, str(value)))
    return ", ".join(str(value) for value in unique)


def _steps(results: Iterable[Result]) -> str:
    units = {"seg": "gradient steps", "rl": "environment steps"}
    found = sorted({(units[result.last.task], result.last.steps) for result in results})
    return ", ".join(f"{steps:,} {unit}" for unit, steps in found)


def _counts(results: Iterable[Result]) -> str:
    units = {"seg": "images", "rl": "episodes"}
    found = sorted({(domain.name, n, units[r.last.task]) for r in results for domain, n in r.counts.items()})
    return ", ".join(f"{name}: {n} {unit}" for name, n, unit in found)
