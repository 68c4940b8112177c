"""The results of the three grids as tables, paired by seed with training on the student's own labels alone.

Run: ``python benchmarks/augkd/table.py``; writes ``results.md`` beside this file.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

if __name__ == "__main__":
    # Found from the checkout's root, also when kdshift is installed elsewhere.
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.augkd import digits, nuclei, policies
from benchmarks.lines import read
from common.evaluation.statistics import holm

OUT = Path(__file__).with_name("results.md")
REFERENCE = "labels"
NAMES = {
    "background": "everything background",
    "teacher": "the teacher as it is",
    "labels": "**own labels alone**",
    "kd": "KD on the own images",
    "kd_agreeing": "the same, where the teacher is right",
    "data_free": "data-free KD, then own labels",
    "augkd": "**AuG-KD**",
    "augkd_no_anchor": "without the anchor",
    "augkd_no_curriculum": "without the curriculum (its mean throughout)",
    "augkd_everywhere": "also where the teacher is wrong (the paper's)",
    "augkd_fresh": "from fresh weights",
    "augkd_generated": "on generated samples alone",
}
POLICY_NAMES = NAMES | {
    "labels": "**reward alone**",
    "kd": "KD on the own frames",
    "data_free": "data-free KD, then reward",
}
_NUCLEI = (
    "mIoU (%) of held-out images of the student's own stain. 300 steps of eight 64 × 64 crops, weight 0.5,"
    " temperature 2 for all; the teacher has had 1,000 steps. Costs were measured beside other work."
)
_NUCLEI_WHY = (
    "Why: as on digits. Of the other stain's images the teacher of fluorescence is sure and wrong, so that plain KD"
    " and the paper's form teach its mistakes; the anchor leads to samples of which it is right. Three seeds, which"
    " also draw which images are labelled, leave intervals wider than most effects: what holds is that the paper's form"
    " loses from fluorescence, before correction, and that a start from generated samples gains a little where all"
    " masks of fluorescence are there. AuG-KD is nowhere shown to beat the own labels; nor is plain KD."
)
_POLICIES = (
    "Normalised return (%) in the look `plain` on levels that were not trained on. The teacher knows the look"
    " `themed` (1,000,000 steps); students take 131,072 steps. Differences are to reward alone. Costs were measured"
    " beside other work."
)
_POLICIES_WHY = (
    "Why: with few steps a teacher of another look knows more than the reward has taught, and every row that asks it"
    " stands above reward alone, AuG-KD's interval above zero before correction, none after: three seeds are few."
    " AuG-KD is not told apart from plain KD. Policies have no labels but the teacher's own choices, so that it is"
    " right on the student's frames by definition; it is unsure of them, and sure of the anchored ones."
)
UNTRAINED = ("background", "teacher")
Line = dict[str, Any]


def complete(lines: Sequence[Line]) -> dict[str, dict[int, Line]]:
    """Row → seed → line, of the seeds that every row has."""
    rows = {name: {line["seed"]: line for line in lines if line["row"] == name} for name in NAMES}
    rows = {name: by_seed for name, by_seed in rows.items() if by_seed}
    seeds = set.intersection(*(set(by_seed) for by_seed in rows.values())) if rows else set()
    return {name: {seed: by_seed[seed] for seed in sorted(seeds)} for name, by_seed in rows.items()} if seeds else {}


def is_whole(rows: Mapping[str, Mapping[int, Line]], wanted: Iterable[str]) -> bool:
    """Whether all rows are there, and more than one seed, which proves nothing."""
    return set(wanted) <= rows.keys() and len(rows[REFERENCE]) > 1


def scores(rows: Mapping[str, Mapping[int, Line]], name: str, metric: str) -> np.ndarray:
    """In per cent, a seed an entry."""
    return np.array([100.0 * line[metric] for line in rows[name].values()])


def table(rows: Mapping[str, Mapping[int, Line]], metric: str, names: Mapping[str, str] = NAMES) -> list[str]:
    """A row a method: its mean, and its difference to :data:`REFERENCE` with interval and p-value."""
    reference = scores(rows, REFERENCE, metric)
    compared = [name for name in rows if name not in (REFERENCE, *UNTRAINED)]
    gains = {name: scores(rows, name, metric) - reference for name in compared}
    tested = {
        name: stats.ttest_1samp(gain, 0.0) for name, gain in gains.items() if len(gain) > 1 and np.ptp(gain) > 1e-9
    }
    corrected = dict(zip(tested, holm([float(test.pvalue) for test in tested.values()]), strict=True)) if tested else {}
    lines = ["| | mean | difference [95 %] | p (Holm) |", "|---|--:|--:|--:|"]
    for name in rows:
        cells = ["", ""]
        if name in gains:
            cells[0] = f"{gains[name].mean():+.1f}"
        if name in tested:
            low, high = tested[name].confidence_interval()
            cells = [f"{cells[0]} [{low:+.1f}, {high:+.1f}]", f"{corrected[name]:.3f}"]
        lines.append(f"| {names[name]} | {scores(rows, name, metric).mean():.1f} | {cells[0]} | {cells[1]} |")
    return lines


def why(rows: Mapping[str, Mapping[int, Line]]) -> list[str]:
    """What the teacher says of the student's samples, before and after the anchor, and what the stages cost."""
    told = [line for line in rows["augkd"].values() if line.get("measured")]
    if not told:
        return []
    kind = next(name.split("/")[0] for name in told[0]["measured"] if name.startswith(("energy", "entropy")))
    lines = ["| the teacher on | right | confidence | " + kind + " |", "|---|--:|--:|--:|"]
    for panel in ("real", "before the anchor", "after the anchor"):
        means = [
            np.mean([line["measured"][f"{name}/{panel}"] for line in told])
            for name in ("agreement", "confidence", kind)
        ]
        lines.append(f"| {panel} | {100 * means[0]:.0f} % | {100 * means[1]:.0f} % | {means[2]:.2f} |")
    stages = ", ".join(
        f"{name.replace('_', '-')} stage {np.median([line['costs'][name] for line in told]):.0f} s"
        for name in told[0]["costs"]
    )
    return [*lines, "", f"Median costs on one thread: {stages}."]


def digit_tables(lines: Sequence[Line]) -> list[str]:
    """A section a labelled part."""
    found = []
    for part in digits.PARTS:
        rows = complete([line for line in lines if line["part"] in (part, 0.0)])
        if REFERENCE in rows:
            count = 2 * round(part * digits.EACH)
            heading = f"### {part:.0%} of the labels ({count} images), {len(rows[REFERENCE])} seeds"
            found += ["", heading, "", *table(rows, "own"), "", *why(rows)]
    return found


def nuclei_tables(lines: Sequence[Line]) -> list[str]:
    """A section a pair of stains and a labelled part."""
    found = []
    for theirs, own in nuclei.PAIRS:
        for part in nuclei.PARTS:
            chosen = [line for line in lines if (line["teacher"], line["student"], line["part"]) == (theirs, own, part)]
            rows = complete(chosen)
            if is_whole(rows, nuclei.ROWS):
                heading = f"### Teacher {theirs}, student {own}, {part:.0%} of the masks, {len(rows[REFERENCE])} seeds"
                found += ["", heading, "", *table(rows, "miou"), "", *why(rows)]
    return found


def policy_tables(lines: Sequence[Line]) -> list[str]:
    """One on levels that no student has seen; the one teacher stands beside every seed."""
    seeds = sorted({line["seed"] for line in lines if line["row"] == REFERENCE})
    shared = [{**line, "seed": seed} for line in lines if line["row"] == "teacher" for seed in seeds]
    rows = complete([line for line in lines if line["row"] != "teacher"] + shared)
    if not is_whole(rows, policies.ROWS):
        return []
    return ["", f"### {len(rows[REFERENCE])} seeds", "", *table(rows, "unseen", POLICY_NAMES), "", *why(rows)]


def page() -> str:
    """The whole of ``results.md``."""
    lines = [
        "# AuG-KD beside its baselines",
        "",
        "A teacher whose training data are gone, a student in another domain. Written by `benchmarks/augkd/table.py`"
        " from `results/`. All students of a seed have the same labels, minibatches and number of steps; what is"
        " prepared comes on top. Differences are to the own labels alone, paired by seed, with Student's interval; p is"
        " corrected over a table's rows. Nothing was chosen on what is tested.",
        "",
        "## Rotated digits",
        "",
        f"Accuracy (%) at {digits.STUDENTS[0]} and {digits.STUDENTS[1]} degrees, the student's own; the teacher knows"
        f" {digits.TEACHERS[0]} and {digits.TEACHERS[1]}. {digits.STEPS} steps, weight {digits.WEIGHT}, temperature"
        f" {digits.TEMPERATURE} for all.",
        *digit_tables(read(digits.RESULTS)),
        "",
        "Why: on the student's own digits the teacher is wrong more often than right, and nearly as sure as where it is"
        " right, so that plain KD and the paper's form, which asks it everywhere, teach its mistakes; asking only where"
        " its choice is the label mends that. The anchor does what it is to do: the teacher is right on far more of"
        " the anchored samples, sure of them, and their energy is lower. But what it then says of them is little more"
        " than the label, which the student has. What pays with few labels is the start: a student that has learnt"
        " from generated samples before it sees its own.",
    ]
    if tables := nuclei_tables(read(nuclei.RESULTS)):
        lines += ["", "## Nuclei", "", _NUCLEI, *tables, "", _NUCLEI_WHY]
    if tables := policy_tables(read(policies.RESULTS)):
        lines += ["", "## CoinRun", "", _POLICIES, *tables, "", _POLICIES_WHY]
    return "\n".join(lines) + "\n"


def main() -> None:
    OUT.write_text(page(), encoding="utf-8")
    print(f"written to {OUT}")


if __name__ == "__main__":
    main()
