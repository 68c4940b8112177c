"""The page of ``control.py``: ``python benchmarks/effect/control_page.py`` writes ``control.md`` from its results."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.effect.control import (
    EPISODES,
    FOLDER,
    PHYSICS,
    RESULTS,
    ROWS,
    STUDENT_STEPS,
    TEACHER_STEPS,
    UNSEEN,
)
from benchmarks.lines import read
from common.evaluation.statistics import LEVEL, holm, paired_interval

PAGE = FOLDER / "control.md"


def table(rows: list[dict[str, Any]], weights: str) -> list[str]:
    """Means over seeds, and the paired difference to ``kd`` with its 95 % interval."""
    scores = {(line["row"], line["seed"]): line["scores"].get(weights, {}) for line in rows}
    names = [name for name in ROWS if (name, 0) in scores]
    lines = [
        f"| row | filtered | {' | '.join(PHYSICS)} | seen − kd | unseen − kd |",
        "|---|--:|" + "--:|" * (len(PHYSICS) + 2),
    ]
    for name in names:
        seeds = sorted(seed for row, seed in scores if row == name and ("kd", seed) in scores)
        mine = [scores[name, seed] for seed in seeds]
        filtered = np.mean([line["filtered"] for line in rows if line["row"] == name])
        means = " | ".join(f"{np.mean([one[physics] for one in mine]):.0f}" for physics in PHYSICS)
        differences = [
            _difference([_mean(scores[name, seed], over) - _mean(scores["kd", seed], over) for seed in seeds])
            for over in (("seen",), UNSEEN)
        ]
        differences = ["–", "–"] if name == "kd" else differences
        lines.append(f"| {name} | {100 * filtered:.0f} % | {means} | {' | '.join(differences)} |")
    return lines


def beside_plain(rows: list[dict[str, Any]]) -> list[str]:
    """What the last weights of each row gain over plain PPO, physics by physics; Holm over rows and unseen physics."""
    scores = {(line["row"], line["seed"]): line["scores"]["last"] for line in rows}
    names = [name for name in ROWS if name != "ppo" and (name, 0) in scores]
    gains = {
        (name, physics): [
            scores[name, seed][physics] - scores["ppo", seed][physics]
            for row, seed in sorted(scores)
            if row == name and ("ppo", seed) in scores
        ]
        for name in names
        for physics in PHYSICS
    }
    asked = [key for key in gains if key[1] in UNSEEN]
    sure = {
        key: value <= LEVEL
        for key, value in zip(asked, holm([stats.ttest_1samp(gains[key], 0).pvalue for key in asked]), strict=True)
    }
    lines = [f"| row | {' | '.join(PHYSICS)} |", f"|---|{'---|' * len(PHYSICS)}"]
    for name in names:
        cells = (f"{_difference(gains[name, one])}{' *' if sure.get((name, one)) else ''}" for one in PHYSICS)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _mean(scores: dict[str, float], over: tuple[str, ...]) -> float:
    return float(np.mean([scores[physics] for physics in over]))


def _difference(values: list[float]) -> str:
    interval = paired_interval(values)
    return f"{np.mean(values):+.0f}" + (f" [{interval.low:+.0f}, {interval.high:+.0f}]" if interval else "")


def page() -> str:
    rows = read(RESULTS)
    teacher = next(line for line in rows if line["row"] == "teacher")["scores"]["last"]
    seeds = max(line["seed"] for line in rows) + 1
    answers = ", ".join(f"{physics} {value:.0f}" for physics, value in teacher.items())
    return "\n".join(
        [
            "# CartPole with shifted physics",
            "",
            f"Written by `benchmarks/effect/control.py` from `results/control.jsonl`: {seeds} seeds a row, {EPISODES} "
            f"episodes of sampled actions a number, students {STUDENT_STEPS:,} steps, the teacher {TEACHER_STEPS:,}. "
            "Differences are paired by seed, with 95 % intervals of Student's t. A number after a reading is the "
            f"filter's threshold. The teacher itself: {answers}.",
            "",
            "## What it adds to plain PPO of equally many steps",
            "",
            "Last weights, mean return less that of plain PPO. `*` marks p ≤ 0.05 after Holm's correction over rows "
            "and unseen physics.",
            "",
            *beside_plain(rows),
            "",
            "## Last weights",
            "",
            *table(rows, "last"),
            "",
            "## Averaged weights (WAKD)",
            "",
            *table(rows, "averaged"),
            "",
            "## What follows",
            "",
            "A reading was to be chosen that acts and does no harm, by the *seen* physics alone. `student`, at the "
            "threshold that segmentation uses, touches one position in a hundred; set low enough to act it scales the "
            "policy's own loss away. `teacher` takes away what is to be learnt: on a control task the teacher is sure "
            "where it matters. `overlap` at .95, which filters KD's own gradient where it is small, acts and loses "
            "nothing: it is the default on policies. None of the readings *gains* over plain KD here. KD hands on what "
            "its teacher can and what it cannot: under long poles, where this teacher fails, plain PPO is better. "
            "An average of all weights from a tenth of so short a training on is worse than the last weights.",
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
