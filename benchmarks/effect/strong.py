"""The grids beside *strong* plain training, as sections of the results' page: one row a method, all targets."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.effect import measured
from benchmarks.effect.committed import RESULTS, budget, description, rows_of, validation
from benchmarks.effect.comparison import WEIGHTS, difference, judged, percent
from benchmarks.effect.grids import GRIDS
from common.evaluation.statistics import standard_error

TITLES: Mapping[str, str] = {
    "nuclei_invert": "Beside strong plain training: nuclei, one stain never seen (mIoU), preset `colour_invert`",
    "nuclei_mild": "The same with the preset `mild`, which anticipates no shift",
    "nuclei_longer": "All masks, two of the stains, four times the steps, preset `colour_invert`",
    "scarce_5": "Masks for 5 % of the images, all images to distil on",
    "scarce_25": "Masks for 25 % of the images, all images to distil on",
    "one_labelled": "Masks for one source domain, images of all to distil on",
    "one_labelled_longer": "The same on two of the stains with four times the steps",
    "colonies_one_labelled": "A second data set, generated bacteria: masks for one source domain, images of all",
    "microcolonies": "The bacteria with all masks: one imaging never seen (mIoU), preset `colour_invert`",
    "family": "Self-distillation without a better teacher: a stain and a look never seen (mIoU)",
    "looks": "A third: frames of three Procgen games, one look never seen (mIoU), preset `colour`",
}

LARGE = "large-0"


def sections() -> list[str]:
    """Every grid that has results."""
    return [line for name in TITLES if (RESULTS / f"{name}.csv").exists() for line in section(name)]


def headline(rows: Sequence[Mapping[str, Any]]) -> str:
    """The weights with which plain training is better on *source* validation, over all cells."""
    return max(WEIGHTS, key=lambda weights: float(np.mean(list(validation(rows, "erm", weights).values()))))


def headline_first(rows: Sequence[Mapping[str, Any]], on: str) -> list[tuple[str, str]]:
    """Either weights with what is said of them; those first that were chosen ``on`` what."""
    first = headline(rows)
    (other,) = set(WEIGHTS) - {first}
    return [(first, f" (plain training is better with these on {on})"), (other, "")]


def on_all_targets(name: str) -> bool:
    """Whether plain training has been judged on every target of a grid, so that its mean over them is what it says."""
    return _judged(name, rows_of(name)) == list(GRIDS[name].targets)


def section(name: str) -> list[str]:
    """What it was, the differences with either weights, and what may explain them."""
    rows = rows_of(name)
    lines = [f"## {TITLES[name]}", "", conditions(name, rows), "", *_levels(name, rows)]
    for weights, why in headline_first(rows, "source validation"):
        lines += ["", f"{weights.capitalize()} weights, less those of plain training{why}:", ""]
        lines += differences(name, weights, rows)
        lines += _with_all_masks(weights, rows) if name == "one_labelled" else []
    return [*lines, *measured.section(name, rows), ""]


def conditions(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Budget, machine and what is there of the grid."""
    asked = {name: ", ".join(names) for name, names in GRIDS[name].asked.items()}
    size = f" {_sizes()}" if any(teacher.startswith("large") for teacher in GRIDS[name].teachers) else ""
    return (
        f"{budget(description(name), (row['steps'] for row in rows))} "
        "What was asked, and how it is answered, was [written down before](plan.md). Teachers: "
        + "; ".join(f"`{method}` {names}" for method, names in asked.items())
        + f".{size}"
    )


def _with_all_masks(weights: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What plain training that has masks of all sources scores where these rows are validated."""
    judged_on = {row["target"]: list(row["scores"]["last"]["validation"]) for row in rows}
    scores = [
        row["scores"][weights]["validation"][domain]
        for row in rows_of("nuclei_invert")
        if row["method"] == "erm"
        for domain in judged_on[row["target"]]
    ]
    return [
        "",
        "On these held-out images of the domain that has masks, plain training with masks of all three source domains "
        f"(`nuclei_invert`) scores {100 * float(np.mean(scores)):.1f} after as many steps.",
    ]


def _sizes() -> str:
    """Student and teacher in a sentence."""
    measured = json.loads((RESULTS / "sizes.json").read_text())
    student, teacher = (measured["networks"][name] for name in ("unet_small", "unet_lite0"))
    return (
        f"A student has {student['parameters'] / 1e6:.1f} M parameters and takes {student['milliseconds']:.0f} ms for "
        f"an image of 256 × 256 pixels on one thread of {measured['machine']['device']}; a large teacher "
        f"{teacher['parameters'] / 1e6:.1f} M and {teacher['milliseconds']:.0f} ms; `of the teacher's` is a score over "
        f"that of `{LARGE}`."
    )


def _levels(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Scores on the unseen stains of nobody, of plain training and of the teachers."""
    targets = _targets(name, rows)
    own = {"all background": description(name)["nothing found"]}
    for label, weights in (("plain, last", "last"), ("plain, averaged", "averaged")):
        own[label] = _unseen(rows, "erm", weights)
    for teacher in GRIDS[name].teachers:
        own[f"teacher {teacher}"] = _unseen(rows, teacher, "averaged")
    lines = [f"| unseen mIoU | {' | '.join(targets)} |", f"|---|{'--:|' * len(targets)}"]
    for label, scores in own.items():
        if scores:
            shown = (f"{100 * scores[target]:.1f}" if target in scores else "–" for target in targets)
            lines.append(f"| {label} | {' | '.join(shown)} |")
    return lines


def _targets(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [target for target in GRIDS[name].targets if any(row["target"] == target for row in rows)]


def _judged(name: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Targets that plain training has been judged on; of a grid that goes on, others have a teacher alone."""
    return _targets(name, [row for row in rows if row["method"] == "erm"])


def _unseen(rows: Sequence[Mapping[str, Any]], method: str, weights: str) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["method"] == method:
            found.setdefault(row["target"], []).extend(row["scores"][weights]["unseen"].values())
    return {target: float(np.mean(values)) for target, values in found.items()}


def differences(name: str, weights: str, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row a method: the mean over targets first, then each of them; ``*`` as everywhere. Scores of plain training.

    ``of the teacher's`` is a method's score over that of the large teacher, both means over the targets; ``source
    validation``, which anybody sees before a target, is the mean over cells with its standard error.
    """
    found = {method: own for method, own in judged(name, weights).items() if method in GRIDS[name].methods}
    there = _judged(name, rows)
    taught = _unseen(rows, LARGE, "averaged")
    best = float(np.mean([taught[target] for target in there])) if set(there) <= set(taught) else None
    # Images of other kinds have no mean over targets.
    targets = [*(["*"] if "*" in found["erm"] else []), *there]
    heads = [f"all {len(there)} targets" if target == "*" else target for target in targets]
    lines = [
        f"| method | seeds | {' | '.join(heads)} | source validation | of the teacher's | ECE | filtered |",
        f"|---|--:|{'---|' * len(heads)}---|--:|--:|--:|",
    ]

    def order(method: str) -> float:
        return float("-inf") if method == "erm" else -float(found[method].get(targets[0], {}).get("difference") or 0)

    for method in sorted(found, key=order):
        own = found[method]
        cells = [
            "–" if target not in own else percent(own[target]["unseen"]) if method == "erm" else difference(own[target])
            for target in targets
        ]
        part = f"{100 * float(own[targets[0]]['unseen']) / best:.0f} %" if best and targets[0] in own else ""
        errors = [float(row["unseen_ece"]) for target, row in own.items() if target != "*" and row["unseen_ece"]]
        error = f"{100 * float(np.mean(errors)):.1f}" if errors else ""
        shares = [row["filtered"] for row in rows if row["method"] == method and "filtered" in row]
        filtered = f"{100 * float(np.mean(shares)):.1f} %" if shares else ""
        label = "**erm** (its scores)" if method == "erm" else f"`{method}`"
        seeds = min(int(row["seeds"]) for row in own.values())
        beside = (_on_sources(rows, method, weights), part, error, filtered)
        lines.append(f"| {label} | {seeds} | {' | '.join((*cells, *beside))} |")
    return lines


def _on_sources(rows: Sequence[Mapping[str, Any]], method: str, weights: str) -> str:
    """Plain training's mean on source validation, and of others the paired difference to it."""
    plain, own = (validation(rows, name, weights) for name in ("erm", method))
    if method == "erm":
        return f"{100 * float(np.mean(list(plain.values()))):.1f}"
    paired = np.array([own[cell] - plain[cell] for cell in own if cell in plain])
    error = f" ± {100 * float(standard_error(paired)):.1f}" if len(paired) > 1 else ""
    return f"{100 * paired.mean():+.1f}{error}"
