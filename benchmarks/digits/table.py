"""``results.jsonl`` as tables: every method beside plain training, paired by seed.

Run: ``python benchmarks/digits/table.py``; writes ``results.md`` beside this file.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

if __name__ == "__main__":
    # Found from the checkout's root, also when kdshift is installed elsewhere.
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.digits.domains import SEEN, TRAINED, UNSEEN
from benchmarks.digits.run import CONTROL, MACHINE, RESULTS, STRENGTH, refusals
from benchmarks.lines import read
from common.evaluation.bootstrap import Floats, Items, hierarchical_bootstrap, mean_value
from common.evaluation.statistics import holm, percentile_interval

BASELINE = "erm"
RESAMPLES = 10_000
# Method → seed → row of results.jsonl.
Cells = Mapping[str, Mapping[int, dict[str, Any]]]


def complete(rows: list[dict[str, Any]]) -> dict[str, dict[int, dict[str, Any]]]:
    """The rows by method and seed, of the seeds that every method has: all comparisons are of the same seeds.

    Raises:
        ValueError: there is no such seed, or no plain training.
    """
    methods = sorted({row["method"] for row in rows})
    if BASELINE not in methods:
        raise ValueError(f"there is no {BASELINE} to compare with; run benchmarks/digits/run.py")
    cells = {name: {row["seed"]: row for row in rows if row["method"] == name} for name in methods}
    seeds = set.intersection(*(set(cells[name]) for name in methods))
    if not seeds:
        raise ValueError("there is no seed that every method has; run benchmarks/digits/run.py to its end")
    return {name: {seed: cells[name][seed] for seed in sorted(seeds)} for name in methods}


def score(row: dict[str, Any], weights: str, part: str, metric: str) -> float:
    """In per cent."""
    return 100.0 * float(row["scores"][weights][part][metric])


def resampled(cells: Cells, weights: str, part: str, metric: str) -> dict[str, Floats]:
    """Means over seeds, the same seeds drawn for all methods: method → ``[R]``.

    A seed has a split of its own, so that drawing seeds also draws what is trained on and what is tested.
    """
    runs = {
        name: {
            seed: [Items(part, (f"seed {seed}",), np.array([[score(row, weights, part, metric), 1.0]]))]
            for seed, row in by_seed.items()
        }
        for name, by_seed in cells.items()
    }
    return {
        name: draws.mean(axis=1)
        for name, draws in hierarchical_bootstrap(runs, mean_value, resamples=RESAMPLES).items()
    }


def mean(cells: Cells, name: str, weights: str, part: str, metric: str) -> float:
    return float(np.mean([score(row, weights, part, metric) for row in cells[name].values()]))


def difference(observed: float, draws: Floats) -> str:
    """``+1.2 [0.3, 2.1]``."""
    low, high = percentile_interval(draws)
    return f"{observed:+.1f} [{low:+.1f}, {high:+.1f}]"


def paired_p_value(cells: Cells, name: str, weights: str) -> float:
    """Of a paired t-test of unseen accuracy: a bootstrap's is far too small with ten seeds."""
    pairs = [(row, cells[BASELINE][seed]) for seed, row in cells[name].items()]
    gains = [[score(row, weights, "unseen", "accuracy") for row in pair] for pair in pairs]
    ours, theirs = np.array(gains).T
    # Equal in every seed: no difference, where the test would divide by zero.
    return 1.0 if np.array_equal(ours, theirs) else float(stats.ttest_rel(ours, theirs).pvalue)


def time_ratio(cells: Cells, name: str) -> float:
    """Median over seeds of the processor time over that of plain training from the same seed."""
    pairs = [(row, cells[BASELINE][seed]) for seed, row in cells[name].items()]
    return float(np.median([ours["processor_seconds"] / theirs["processor_seconds"] for ours, theirs in pairs]))


def comparison(cells: Cells, weights: str) -> list[str]:
    """The table of one kind of weights, best on unseen angles first."""
    columns = [("seen", "accuracy"), ("unseen", "accuracy"), ("unseen", "ece")]
    draws = {column: resampled(cells, weights, *column) for column in columns}
    methods = [name for name in cells if name not in (BASELINE, CONTROL)]
    p_values = [paired_p_value(cells, name, weights) for name in methods]
    corrected = dict(zip(methods, holm(p_values).tolist(), strict=True))
    lines = [
        "| method | seen | unseen | Δ seen | Δ unseen | p | ECE unseen | Δ ECE unseen | time |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in sorted(cells, key=lambda name: -mean(cells, name, weights, "unseen", "accuracy")):
        values = {column: mean(cells, name, weights, *column) for column in columns}
        deltas = {
            column: difference(
                values[column] - mean(cells, BASELINE, weights, *column), draws[column][name] - draws[column][BASELINE]
            )
            for column in columns
        }
        cell = {column: "" if name == BASELINE else delta for column, delta in deltas.items()}
        shown = f"**{name}**" if name in (BASELINE, CONTROL) else name
        p_value = f"{corrected[name]:.3f}" if name in corrected else ""
        lines.append(
            f"| {shown} | {values[columns[0]]:.1f} | {values[columns[1]]:.1f} "
            f"| {cell[columns[0]]} | {cell[columns[1]]} | {p_value} "
            f"| {values[columns[2]]:.1f} | {cell[columns[2]]} | {time_ratio(cells, name):.2f} |"
        )
    return lines


def averaging(cells: Cells) -> list[str]:
    """What averaging adds to each method."""
    columns = [("unseen", "accuracy"), ("seen", "accuracy"), ("unseen", "ece")]
    draws = {
        (weights, column): resampled(cells, weights, *column) for weights in ("live", "wakd") for column in columns
    }
    lines = ["| method | Δ unseen | Δ seen | Δ ECE unseen |", "|---|--:|--:|--:|"]
    for name in sorted(cells):
        gains = [
            difference(
                mean(cells, name, "wakd", *column) - mean(cells, name, "live", *column),
                draws["wakd", column][name] - draws["live", column][name],
            )
            for column in columns
        ]
        lines.append(f"| {name} | {' | '.join(gains)} |")
    return lines


def page(rows: list[dict[str, Any]], machine: dict[str, Any] | None) -> str:
    """The whole of ``results.md``."""
    cells = complete(rows)
    seeds, steps = len(cells[BASELINE]), next(iter(cells[BASELINE].values()))["steps"]
    overridden = {name: row["overrides"] for name, by_seed in cells.items() for row in by_seed.values()}
    changed = [f"`{name}`: {', '.join(values)}" for name, values in overridden.items() if values]
    angles = " and ".join(str(angle) for angle in UNSEEN)
    lines = [
        "# Rotated digits: every method beside plain training",
        "",
        f"scikit-learn's real digits (1,797 scans), enlarged to 16×16. {TRAINED} of them are trained on at "
        f"{', '.join(map(str, SEEN))} degrees; the other {1797 - TRAINED} are judged at those angles (seen) and at "
        f"{angles} (unseen). Written by `benchmarks/digits/table.py` from `results.jsonl`.",
        "",
        f"- {seeds} seeds, {steps} steps each. A seed is a split, initial weights and an order of minibatches, which "
        "all methods share.",
        "- Accuracy and calibration error (ECE, 15 bins) in per cent. Δ is the difference to `erm` of the same seeds; "
        f"in brackets its 95 % interval ({RESAMPLES:,} bootstrap resamples of the seeds, paired). With few seeds such "
        "intervals are somewhat too short; trust `p`: a paired t-test of unseen accuracy, with Holm's correction over "
        "all methods of a table.",
        "- `erm_again` is plain training from another seed on the same images: the teacher of the methods that have "
        "one, and the control. Its Δ shows what chance alone does.",
        "- `time` is processor time of training over that of `erm`, the median over seeds; the teacher's own training "
        "is not in it. It includes averaging, which all have.",
        f"- Strengths: {', '.join(f'{key} {value}' for key, value in STRENGTH.items())}. Other numbers of the papers: "
        f"{'; '.join(changed) or 'none'}. Nothing was tuned here.",
        f"- Not served: {'; '.join(refusals().values())}.",
        "",
        "## The weights of the last step",
        "",
        *comparison(cells, "live"),
        "",
        "## Averaged weights (WAKD), against averaged `erm`",
        "",
        *comparison(cells, "wakd"),
        "",
        "## What averaging adds: WAKD less the last step",
        "",
        *averaging(cells),
    ]
    if machine is not None:
        lines += [
            "",
            f"{machine['cpu']}, {machine['cores']} cores, torch {machine['versions']['torch']}, {machine['date']}.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    described = options.results.with_name(MACHINE.name)
    machine = json.loads(described.read_text(encoding="utf-8")) if described.exists() else None
    out = options.results.with_suffix(".md")
    out.write_text(page(read(options.results), machine), encoding="utf-8")
    print(f"written to {out}")


if __name__ == "__main__":
    main()
