"""Write the README's table of methods, its measured results and its picture from the committed data.

``python benchmarks/readme.py`` rewrites the README between its marks from the ``results`` folders in ``benchmarks``;
``--check`` only says whether that would change it. ``--demo FOLDER`` first takes the demo's table and picture from a
finished ``make demo``.
"""

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from benchmarks.augkd import digits
from benchmarks.augkd import table as augkd
from benchmarks.demo_results import RESULTS, ROOT, take_demo
from benchmarks.effect.comparison import AVERAGED, percent
from benchmarks.found import STRONG, STUDENTS, found, seeds
from benchmarks.speed.run import rows
from common.evaluation.statistics import paired_interval
from common.runs.metrics import metric

# What a grid is about → its column.
ABOUTS = {
    "digits": "digits, 10 seeds",
    "nuclei": "nuclei, all masks",
    "nuclei, masks of one domain": "nuclei, masks of one domain of three",
    "bacteria, masks of one domain": "generated bacteria, the same",
    "bacteria": "generated bacteria, all masks",
    "CoinRun, a tenth of the teacher's steps": "CoinRun, a tenth of the teacher's steps",
    "CoinRun, a teacher of other levels, on levels alone": "CoinRun, unseen levels, a teacher of 10,000 others",
}
# Name in the grids, how a user writes it, and what it adds.
TOLD = (
    ("kd", "`kd`", "KL to a frozen teacher, or several ([Hinton et al.](https://arxiv.org/abs/1503.02531))"),
    ("kddg", "`kddg`", "KD whose gradient fades where it is learnt ([KDDG](https://arxiv.org/abs/2107.02629))"),
    ("sd_dropout", "`sd_dropout`", "two dropped-out looks agree ([SD-Dropout](https://arxiv.org/abs/2208.05642))"),
    ("kddg_sdd", "`kddg_sdd`", "both"),
    ("wakd", "`experiment=wakd`", "KD without own labels, averaged ([WAKD](https://arxiv.org/abs/2309.11446))"),
    ("own_states", "`policy_distillation`", "the teacher's answers alone, no reward: `experiment=wide_teacher`"),
    (
        f"erm{AVERAGED}",
        "`averaging=wakd`",
        "every iterate's mean, beside any method; `swad`, `sma`",
    ),
    (
        "cs_kd",
        "`cs_kd`",
        "samples of a class agree ([CS-KD](https://arxiv.org/abs/2003.13964)); sixteen more of its family",
    ),
    ("label_smoothing", "`label_smoothing`", "the control that often beats self-distillation"),
)
# Rows of grids that had settings before the present defaults → rows of the same grids with these.
AS_SHIPPED = {"cs_kd": "cs_kd_w0.01"}


def results() -> str:
    """The README's measured results as Markdown."""
    return "\n".join([*_demo(), "", _augkd(), "", _speed()])


def methods() -> str:
    """The README's table of methods: less plain training, with the weights that source validation prefers."""
    told = {name: _told(name) for name, *_ in TOLD}
    abouts = [about for about in ABOUTS if any(about in own for own in told.values())]
    heads = [f"{ABOUTS[about]}{_seeds(about)}" for about in abouts]
    lines = [f"| method | what it adds | {' | '.join(heads)} |"]
    lines.append("|---" * (2 + len(abouts)) + "|")
    for name, written, adds in TOLD:
        lines.append(f"| {written} | {adds} | {' | '.join(told[name].get(about, '–') for about in abouts)} |")
    return "\n".join(
        [
            *lines,
            "",
            "Points of accuracy, mIoU and normalised return on domains never trained on, less plain training with as "
            "many steps, both with last or both with averaged weights, whichever source validation prefers [95 %, over "
            "seeds and test items; of one seed over items alone] (`averaging=wakd`: less its last weights); `*`: p ≤ "
            "0.05 after Holm's correction. Small networks and "
            "budgets: [digits](benchmarks/digits/results.md), [the grids](benchmarks/effect/results.md).",
        ]
    )


def _told(name: str) -> dict[str, str]:
    """What a grid is about → the one number of a method's that there is room for."""
    return {
        one.about: one.difference for own in (name, AS_SHIPPED.get(name, name)) for one in found(own) if one.headline
    }


def _seeds(about: str) -> str:
    if about not in (STRONG | STUDENTS).values():
        return ""
    count = seeds(about)
    return f", {count} seed{'s' if count > 1 else ''}"


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
            f"{budget['test_items']} test items, {budget['trivial']['by']} {percent(budget['trivial']['score'])}"
            for target, budget in description["budgets"].items()
        )
        + ". Networks have masks of fluorescence alone and images of two more stains, their teacher masks of all "
        "three; `mild` augmentation, which anticipates no inversion. The teacher's cost comes on top.",
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


def _speed() -> str:
    """What people ask first, in a sentence a machine."""
    sentences = []
    for path in sorted((ROOT / "benchmarks" / "speed" / "results").glob("*-cores.json")):
        data = json.loads(path.read_text())
        if "ppo" not in data["results"]:
            continue
        figures = {question: value for question, value, *_ in rows(data["results"])}
        ppo, plain = (figures[f"PPO rollout + update, `{name}` / stock"] for name in ("kddg_sdd", "erm"))
        described = data["machine"]
        segmentation = figures["segmentation step, `kddg_sdd` / plain + teacher"]
        sentences.append(
            f"On {described['device']}, distilled PPO takes {ppo} of the time of stock Stable-Baselines3 PPO with the "
            f"same network, plain PPO {plain}, a distilled segmentation step {segmentation} of a plain one and the "
            "teacher's answer."
        )
    sentences.append(
        "[Every figure beside its target](benchmarks/speed/results.md); `make benchmark-speed` measures yours."
    )
    return " ".join(sentences)


def updated(text: str) -> str:
    """The README with what is between its marks written anew."""
    for mark, content in (("methods", methods()), ("results", results())):
        begin, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n\n{content}\n\n{end}{rest.split(end)[1]}"
    return text


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, help="a finished demo's folder to take results from")
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 if the README is behind")
    options = parser.parse_args()
    if options.demo is not None:
        take_demo(options.demo)
    readme = ROOT / "README.md"
    text = readme.read_text()
    if options.check:
        return int(updated(text) != text)
    readme.write_text(updated(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())
