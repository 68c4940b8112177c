"""How the numbers of a report came about, in words, from the records alone."""

from collections.abc import Iterable, Mapping

from common.report.analysis import Analysis
from common.report.escape import on_page
from common.report.html import section, table
from common.report.results import Result
from common.runs.metrics import TASKS, Task

_SCORES: Mapping[Task, str] = {
    "seg": (
        "Segmentation: the score of a run is the mean IoU of one confusion matrix pooled over a domain's test "
        "images, over the classes present; runs are averaged over seeds, targets with equal weight per run."
    ),
    "rl": (
        "Reinforcement learning: the score of a run is its mean episode return on a domain, normalised to the "
        "game's range where the records say so; runs (seeds and games) are aggregated by their interquartile "
        "mean (three runs or fewer: the mean)."
    ),
}


def headline_sentence(analysis: Analysis) -> str:
    """What the report is about, in one sentence."""
    results = _results(analysis)
    runs = len({result.path for result in results})
    methods = sorted({result.last.method for result in results})
    tasks = " and ".join(sorted({TASKS[result.last.task].title for result in results}))
    return f"{runs} finished runs of {len(methods)} methods ({', '.join(methods)}) in {tasks}."


def conditions(analysis: Analysis) -> str:
    """The paragraph and list on methods and conditions, as HTML."""
    results = _results(analysis)
    items = [
        ("methods", _listing(label for table in analysis.tables for label in table.setting.methods)),
        ("seeds", _listing(result.last.seed for result in results)),
        ("networks", _listing(result.last.network for result in results)),
        ("training steps", _steps(results)),
        ("test items per domain", _counts(results)),
        ("versions", _listing(f"{name} {v}" for result in results for name, v in result.last.versions.items())),
    ]
    listing = "".join(f"<dt>{on_page(name)}</dt><dd>{on_page(value)}</dd>" for name, value in items if value)
    prose = f"<p>{on_page(_prose(analysis))}</p>\n<dl>{listing}</dl>"
    return f"<h2>Methods and conditions</h2>\n{prose}\n{_runs(analysis)}"


_PROGRAMS: Mapping[Task, str] = {"seg": "kdseg-train", "rl": "kdrl-train"}


def _runs(analysis: Analysis) -> str:
    """Every run: what it is, where it lies, and how to train it again."""
    lines = [
        [
            on_page(label),
            str(seed),
            f"<code>{on_page(result.last.identity) or '–'}</code>",
            on_page(str(result.path)),
        ]
        for one in analysis.tables
        for label, runs in one.setting.methods.items()
        for seed, result in sorted(runs.items())
    ]
    commands = [
        f"<p><code>{_PROGRAMS[task]} --config-dir RUN --config-name config run_dir=NEW</code></p>"
        for task in sorted({one.setting.task for one in analysis.tables})
    ]
    caption = (
        "Equal identities are equal runs; the same machine, library versions and number of threads give the same"
        " weights to the last bit."
    )
    header = ("method", "seed", "identity", "folder")
    return section("Runs, and how to train one again", *commands, table(header, lines, caption))


def _prose(analysis: Analysis) -> str:
    tasks = {table.setting.task for table in analysis.tables}
    sentences = [sentence for task, sentence in _SCORES.items() if task in tasks]
    sentences.append(
        "Runs stand in one table where task, data, domains, network, budget and hyper-parameters of the host are "
        "equal, and in one row where they differ in nothing but the seed. "
        "Where several domains make up the seen or unseen score, a run's score is the mean over them. Standard errors "
        f"come from {analysis.resamples:,} bootstrap resamples that draw seeds first and test items second; images of "
        "one group and episodes of one level are drawn together, and methods that share seeds or items share the "
        "draws. The variance between seeds is corrected for their number, and 95 % intervals and p-values are "
        "Student's, with Satterthwaite's degrees of freedom (few seeds that disagree make them wide); intervals of "
        "probabilities are percentiles of the resamples. A verdict needs p ≤ 0.05 after Holm's correction over all "
        "methods and all targets of settings that differ in their domains alone; a table over targets is corrected "
        "over its methods. Rows show the last weights of training unless they name others; "
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
    found = sorted({(TASKS[result.last.task].steps, result.last.steps) for result in results})
    return ", ".join(f"{steps:,} {unit}" for unit, steps in found)


def _counts(results: Iterable[Result]) -> str:
    found = sorted({(domain.name, n, TASKS[r.last.task].items) for r in results for domain, n in r.counts.items()})
    return ", ".join(f"{name}: {n} {unit}" for name, n, unit in found)
