"""Write the README's measured results and its picture from the committed data.

``python benchmarks/readme.py`` rewrites the README between its ``results`` marks from the ``results`` folders in
``benchmarks``; ``--check`` only says whether that would change it. ``--demo FOLDER`` first takes the
demo's table and picture from a finished ``make demo``.
"""

import argparse
import csv
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.augkd import digits
from benchmarks.augkd import table as augkd
from benchmarks.effect import comparison, state_diversity
from benchmarks.effect.table import percent
from benchmarks.speed import machine
from benchmarks.speed.run import rows
from common.evaluation.statistics import paired_interval
from common.runs.disk import write_atomically
from common.runs.folder import Run
from common.runs.items import item_key
from common.runs.metrics import metric

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- results -->", "<!-- end of results -->"
METHODS = ("erm", "kddg_sdd")


def take_demo(folder: Path) -> None:
    """Copy the table of a finished demo, note the machine and the budget, and draw the picture."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "report" / "report.csv", RESULTS / "demo.csv")
    budgets = {}
    for task in sorted((folder / "runs").iterdir()):
        runs = [Run(path) for path in sorted(task.iterdir())]
        tested = [record for run in runs for record in run.records() if record.split == "test"]
        teacher = [record for record in Run(folder / "teachers" / task.name).records() if record.split == "test"]
        budgets[tested[0].target] = {
            "steps": tested[0].steps,
            "teacher_steps": teacher[0].steps,
            "test_items": next(record.n for record in tested if not record.seen),
        }
    description = machine.describe("cpu") | {"budgets": budgets}
    (RESULTS / "demo.json").write_text(json.dumps(description, indent=2) + "\n")
    draw(folder / "runs", ROOT / "docs" / "figures" / "demo.png")


def draw(runs: Path, path: Path) -> None:
    """An unseen stain as the networks see it, over a policy on unseen levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    items = {method: Run(runs / "nuclei" / f"{method}-0").items() for method in METHODS}
    frames = Run(runs / "coinrun" / "kddg_sdd-0").items()[item_key("image", "coinrun/themed", seen=False)]
    key = item_key("image", "purple_on_white", seen=False)
    mask, prediction = (item_key(name, "purple_on_white", seen=False) for name in ("mask", "prediction"))
    shown = 0
    columns = {"unseen stain": None, "truth": items["erm"][mask][shown]}
    columns |= {method: items[method][prediction][shown] for method in METHODS}
    figure, axes = pyplot.subplots(2, 4, figsize=(9, 4.7), layout="constrained")
    for axis, (title, outline) in zip(axes[0], columns.items(), strict=True):
        axis.imshow(items["erm"][key][shown])
        if outline is not None:
            axis.contour(outline == 1, levels=[0.5], colors="#ffd400", linewidths=1.2)
        axis.set_title(title, fontsize=10)
    for axis, frame in zip(axes[1], frames[1::2], strict=False):
        axis.imshow(frame)
    axes[1][0].set_title("kddg_sdd on unseen CoinRun levels", fontsize=10, loc="left")
    for axis in axes.flat:
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))


def results() -> str:
    """The README's section as Markdown."""
    return "\n".join([*_effect(), "", _diversity(), "", _augkd(), "", *_demo(), "", *_speed()])


def _effect() -> list[str]:
    """Differences to plain training over the grids' targets, with the last and with averaged weights."""
    parts = {"core": "three unseen targets, mIoU", "policies": "CoinRun, unseen levels, return"}
    columns: dict[str, dict[str, str]] = {}
    for name, what in parts.items():
        for file, suffix, weights in (
            (name, "", "last weights"),
            (f"{name}_averaged", comparison.AVERAGED, "both averaged"),
        ):
            rows = [row for row in comparison.read(file) if row["target"] == "*" or name == "policies"]
            columns[f"{what}: {weights}"] = {
                row["method"].removesuffix(suffix): comparison.difference(row)
                for row in rows
                if row["method"].endswith(comparison.AVERAGED) == bool(suffix)
            }
    methods = [method for method in dict.fromkeys(name for own in columns.values() for name in own) if method != "erm"]
    seeds = {name: min(int(row["seeds"]) for row in comparison.read(name)) for name in parts}
    return [
        "Difference to plain training of equally many steps, in points [95 %], on "
        f"targets never trained on; {seeds['core']} seeds for segmentation, {seeds['policies']} for policies; `*`: "
        "p ≤ 0.05 after Holm's correction over methods and targets "
        "([every target, the teachers' cost and the conditions](benchmarks/effect/results.md)):",
        "",
        "| method | " + " | ".join(columns) + " |",
        "|---|" + "---|" * len(columns),
        *(
            f"| `{method}` | " + " | ".join(own.get(method, "") or "–" for own in columns.values()) + " |"
            for method in methods
        ),
    ]


def _diversity() -> str:
    """What the states are worth that a policy is distilled on."""
    rows = state_diversity.rows_of(state_diversity.RESULTS)
    unseen = {
        name: [row["unseen"] for row in rows if row["student"] == name]
        for name in ("teacher one", "student one", "mixed one")
    }
    teacher, student, mixed = (f"{100 * sum(values) / len(values):.0f} %" for values in unseen.values())
    return (
        f"Whose states a policy is distilled on (`driver=`), {len(unseen['mixed one'])} seeds, a perfect teacher and "
        f"{state_diversity.SEEN_LEVELS} levels of four rooms: students solve {teacher} of unseen levels from the "
        f"teacher's states alone, {student} from their own and {mixed} from mixed ones."
    )


def _augkd() -> str:
    """AuG-KD on digits with the fewest labels, beside the own labels alone and plain KD."""
    part = digits.PARTS[0]
    rows = augkd.complete([line for line in digits.read(digits.RESULTS) if line["part"] in (part, 0.0)])
    scores = {name: augkd.scores(rows, name, "own") for name in ("labels", "kd", "data_free", "augkd")}
    own = scores.pop("labels")
    told = {name: f"{found.mean():.0f} % ({_paired(found - own)})" for name, found in scores.items()}
    return (
        f"A teacher whose data are gone and who is right on {_mean(rows, 'teacher'):.0f} % of the student's digits,"
        f" {len(own)} seeds, {2 * round(part * digits.EACH)} labelled ones: own labels alone {own.mean():.0f} %, plain"
        f" KD on them {told['kd']}, `augkd` {told['augkd']}, its data-free start and then own labels"
        f" {told['data_free']}; with more labels it gains nothing ([why, and every part](benchmarks/augkd/results.md))."
    )


def _mean(rows: Mapping[str, Mapping[int, dict[str, Any]]], name: str) -> float:
    """The mean of a row, in per cent."""
    return float(augkd.scores(rows, name, "own").mean())


def _paired(differences: np.ndarray) -> str:
    """A mean difference with its interval."""
    bounds = paired_interval(differences)
    assert bounds is not None
    return f"{differences.mean():+.1f} [{bounds.low:+.1f}, {bounds.high:+.1f}]"


def _demo() -> list[str]:
    description = json.loads((RESULTS / "demo.json").read_text())
    with (RESULTS / "demo.csv").open() as file:
        rows = list(csv.DictReader(file))
    lines = [
        f"`make demo` on {description['device']} ({description['date']}), a laptop's budget and no more: "
        + "; ".join(
            f"{target}: {budget['steps']:,} steps a run (the teacher {budget['teacher_steps']:,}), "
            f"{budget['test_items']} test items"
            for target, budget in description["budgets"].items()
        )
        + ". The teacher's cost comes on top.",
        "",
        "| unseen target | method | seeds | metric | seen | unseen | difference to erm on unseen [95 %] | time / erm |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        difference = "–"
        if row["difference"]:
            low, high = row["difference_low"], row["difference_high"]
            difference = f"{percent(row['difference'], True)} [{percent(low, True)}, {percent(high, True)}]"
        lines.append(
            f"| {row['target']} | `{row['method']}` | {row['seeds']} | {metric(row['metric']).heading} "
            f"| {percent(row['seen'])} | {percent(row['unseen'])} | {difference} | {float(row['relative_cost']):.2f} |"
        )
    return lines


def _speed() -> list[str]:
    lines = []
    for path in sorted((ROOT / "benchmarks" / "speed" / "results").glob("*-cores.json")):
        data = json.loads(path.read_text())
        described = data["machine"]
        lines += [
            f"Speed on {described['device']} ({described['date']}), medians of paired ratios within one run "
            "(`make benchmark-speed`):",
            "",
            "| question | figure | quartiles | target |",
            "|---|---|---|---|",
        ]
        lines += [f"| {' | '.join((question, *cells))} |" for question, *cells in _figures(data["results"])]
        lines.append("")
    return lines[:-1]


def _figures(results: dict[str, Any]) -> list[tuple[str, ...]]:
    return [(question, value, spread, target) for question, value, spread, _, target, _ in rows(results)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="a finished demo's folder to take results from")
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the README is behind")
    options = parser.parse_args()
    if options.demo is not None:
        take_demo(options.demo)
    readme = ROOT / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    updated = f"{before}{BEGIN}\n\n{results()}\n\n{END}{rest.split(END)[1]}"
    if options.check:
        return int(updated != text)
    readme.write_text(updated)
    return 0


if __name__ == "__main__":
    sys.exit(main())
