"""The grids' results as one page: ``python benchmarks/effect/table.py`` writes ``results.md`` beside this file."""

import sys
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.effect import averages, defaults, pilot, state_diversity, strong, students
from benchmarks.effect.committed import budget, description, rows_of
from benchmarks.effect.comparison import AVERAGED, Rows, difference, percent, read

PAGE = Path(__file__).parent / "results.md"


def comparison(rows: Rows, reference: str) -> list[str]:
    """One target: every method beside the reference."""
    lines = [f"| method | seeds | seen | unseen | Δ to {reference} [95 %] | time |", "|---|--:|--:|--:|---|--:|"]
    for row in sorted(rows, key=lambda one: -float(one["unseen"])):
        name = f"**{row['method']}**" if row["method"] == reference else row["method"]
        cost = f"{float(row['relative_cost']):.2f}" if row["relative_cost"] else ""  # of another setting
        lines.append(
            f"| {name} | {row['seeds']} | {percent(row['seen'])} | {percent(row['unseen'])} "
            f"| {difference(row)} | {cost} |"
        )
    return lines


def section(name: str, title: str, targets: dict[str, str], note: str = "") -> list[str]:
    """A grid: live weights, averaged weights, and what averaging adds to plain training."""
    live, averaged = read(name), read(f"{name}_averaged")
    lines = [f"## {title}", "", *conditions(name), "", *([note, ""] if note else [])]
    for target, heading in targets.items():
        mine = [row for row in live if row["target"] == target and not row["method"].endswith(AVERAGED)]
        other = [row for row in averaged if row["target"] == target and row["method"].endswith(AVERAGED)]
        gain = next(row for row in live if row["target"] == target and row["method"] == f"erm{AVERAGED}")
        lines += [
            f"### {heading}",
            "",
            *comparison(mine, "erm"),
            "",
            f"Averaging alone (`erm{AVERAGED}` less `erm`): {difference(gain)}. Both averaged:",
            "",
            *comparison(other, f"erm{AVERAGED}"),
            "",
        ]
    if kddg_was_kd(name):
        lines += [
            "`kd` and `kddg` came to the same scores with every seed and either weights: the filter of `kddg` never "
            "acted, because no student was ever surer of a label than its threshold.",
            "",
        ]
    return lines


def kddg_was_kd(name: str) -> bool:
    """Whether a grid has KD and KDDG, with the same scores in every cell."""
    scores = {
        method: {(row["target"], row["seed"]): row["scores"] for row in rows_of(name) if row["method"] == method}
        for method in ("kd", "kddg")
    }
    return bool(scores["kd"]) and scores["kd"] == scores["kddg"]


def conditions(name: str) -> list[str]:
    """Machine, budget and the teachers' cost."""
    described, rows = description(name), rows_of(name)
    teachers = {row["target"]: row for row in rows if row["method"] == "teacher"}
    taught = "; ".join(
        f"{target} {row['seconds']:.0f} s, {100 * float(np.mean(list(row['scores']['last']['unseen'].values()))):.1f}"
        for target, row in teachers.items()
    )
    steps = {row["steps"] for row in rows if row["method"] != "teacher"}
    longer = {row["steps"] for row in teachers.values()} - steps
    trained = f", trained for {' or '.join(f'{step:,}' for step in longer)} steps" if longer else ""
    networks = [one for one in described.get("teachers", {}).get("teacher", ()) if one.startswith("network=")]
    larger = f", a larger network (`{networks[0]}`)" if networks else ""
    if not teachers:
        return [budget(described, steps)]
    return [
        budget(described, steps),
        "",
        f"The teacher of a target is plain training from another seed{larger}{trained}; its cost, on top, and its "
        f"score on the unseen target: {taught}.",
    ]


def page() -> str:
    """The whole of ``results.md``."""
    lines = [
        "# Does it help on a domain not trained on?",
        "",
        "Small networks and budgets that two cores can afford, said to be what they are; written by "
        "`benchmarks/effect/table.py` from the data in `results/`. All methods of a table ran the same number of steps "
        "from the same seeds. Scores are in per cent. Δ is the difference on the unseen target, with its 95 % "
        "interval over seeds and test items, of one seed over items alone; `*` marks p ≤ 0.05 after Holm's "
        "correction over all methods and targets of a grid. `time` is training time "
        "over that of plain training; a teacher's own training is not in it. *Averaged* weights are WAKD's, of the "
        "same runs, with BatchNorm's statistics re-estimated.",
        "",
        *section(
            "core",
            "Segmentation (mIoU)",
            {
                "purple_on_white": "Nuclei, unseen stain: purple on white",
                "fluorescence": "Nuclei, unseen microscope: fluorescence (bright on dark; every third image)",
                "generated": "CoinRun, unseen look: generated",
                "*": "All three targets, equal weight",
            },
        ),
        *strong.sections(),
        *averages.section(),
        "## Default settings",
        "",
        " ".join((defaults.__doc__ or "").split("\n\n", 1)[1].split()),
        "",
        *defaults.table(),
        "",
        *section(
            "dropout",
            "SD-Dropout (mIoU): its weight",
            {
                "purple_on_white": "Nuclei, unseen stain: purple on white (every third image of fluorescence)",
                "generated": "CoinRun, unseen look: generated",
            },
        ),
        *section(
            "strength",
            "KD of a teacher that was trained five times as long (mIoU): the weight and the temperature",
            {
                "purple_on_white": "Nuclei, unseen stain: purple on white (every third image of fluorescence)",
                "generated": "CoinRun, unseen look: generated",
            },
        ),
        *section(
            "recipe",
            "Settings of the recipe: a larger, pretrained teacher (mIoU)",
            {
                "purple_on_white": "Nuclei, unseen stain: purple on white (every third image of fluorescence)",
                "purple_on_purple": "Nuclei, unseen stain: purple on purple (every third image of fluorescence)",
            },
        ),
        *section(
            "policies",
            "PPO on CoinRun (normalised return)",
            {"coinrun/themed": "Unseen levels, training look"},
            "The machine did other work meanwhile: the times say nothing here (see `benchmarks/speed`).",
        ),
        *pilot.section(),
        *students.sections(),
        "## State diversity: whose states a student should learn from",
        "",
        *state_diversity.summary(state_diversity.RESULTS).splitlines(),
    ]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(f"written to {PAGE}")
