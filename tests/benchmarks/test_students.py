"""The table of students beside their teachers and chance, from cells made up for it, and what their differences are."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.effect import grid, keeping, students
from benchmarks.effect.cells import Cell
from benchmarks.effect.grids import GRIDS
from common.report.analysis import analyse

THEMED, GENERATED = "coinrun/themed", "coinrun/generated"


def cell(method: str, seed: int, seen: float, levels: float, look: float) -> dict[str, Any]:
    scores = {"seen": {THEMED: seen}, "validation": {THEMED: levels}, "unseen": {THEMED: levels, GENERATED: look}}
    of_weights = {"last": scores, "averaged": {part: dict.fromkeys(own, 0.0) for part, own in scores.items()}}
    steps = 2_000_000 if method.startswith("long") else 200_000
    return {"target": "coinrun", "method": method, "seed": seed, "steps": steps, "scores": of_weights}


def test_students_are_a_part_of_what_their_teacher_earns_above_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("students", "committed", "comparison"):
        monkeypatch.setattr(f"benchmarks.effect.{module}.RESULTS", tmp_path)
    cells = [
        cell("long-0", 100, 0.9, 0.8, 0.4),  # 0.6 on what is unseen, 0.8 above chance
        cell("erm", 0, 0.5, 0.3, 0.0),
        cell("erm", 1, 0.5, 0.3, 0.2),
        cell("kd", 0, 0.7, 0.6, 0.2),  # 0.4, 0.6 above chance
    ]
    (tmp_path / "students_10.jsonl").write_text("".join(json.dumps(one) + "\n" for one in cells))
    described = {"cells": 3, "of": 50, "device": "a CPU", "date": "today", "versions": {"torch": "2"}}
    (tmp_path / "students_10.json").write_text(json.dumps(described))
    score = {"normalized_return": -0.2}
    chance = {"coinrun": {"seen": {THEMED: score}, "unseen": {THEMED: score, GENERATED: score}}}
    (tmp_path / "chance.json").write_text(json.dumps({"games": chance}))
    for suffix, ending in (("", ""), ("_averaged", " (averaged)")):
        with (tmp_path / f"students_10{suffix}.csv").open("w", newline="") as file:
            names = ("method", "target", "seeds", "p_value", "difference", "difference_low", "difference_high")
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerow({"method": f"erm{ending}", "target": THEMED, "seeds": 2})
            row = {"method": f"kd{ending}", "target": THEMED, "seeds": 1, "p_value": 0.01, "difference": 0.2}
            writer.writerow(row | {"difference_low": 0.1, "difference_high": 0.3})
    lines = students.sections()
    assert "| chance |  | -20.0 | -20.0 | -20.0 |  |  |" in lines
    assert "| teacher `long-0` | 1 | 90.0 | 80.0 | 40.0 |  |  |" in lines
    assert "| **erm** | 2 | 50.0 | 30.0 | 10.0 | 50 % |  |" in lines
    kd = "| `kd` | 1 | 70.0 | 60.0 | 20.0 | 75 % | +20.0 [+10.0, +30.0] * |"
    assert lines.index(kd) < lines.index("| **erm** | 2 | 50.0 | 30.0 | 10.0 | 50 % |  |")
    assert any("200,000 steps" in line and "Teachers: 2,000,000 steps." in line for line in lines)
    # Plain training is better with its last weights on validation levels: they come first.
    assert next(line for line in lines if line.startswith("coinrun, ")).startswith("coinrun, last weights (plain")


def test_a_student_is_a_part_of_its_teacher_on_what_it_was_judged_on() -> None:
    """Its teacher and chance were judged in another look, too."""
    own = {("seen", THEMED): 0.9, ("unseen", THEMED): 0.3}
    teacher = {("seen", THEMED): 0.9, ("unseen", THEMED): 0.7, ("unseen", GENERATED): -0.9}
    chance = {("unseen", THEMED): -0.1, ("unseen", GENERATED): -0.5}
    assert students.part_of(own, teacher, chance) == pytest.approx(0.5)


def test_differences_are_of_the_mean_over_all_that_is_unseen(tmp_path: Path) -> None:
    """On the committed runs: a row's score is the mean over levels in either look, its difference that of both."""
    keeping.unpack(grid.archive("students_10", "coinrun"), tmp_path)
    runs = [grid.folder(tmp_path, GRIDS["students_10"], Cell("coinrun", name, 0)) for name in ("erm", "kd")]
    analysis = analyse(runs, resamples=200)
    (levels,), (both,) = analysis.tables, students.on_all_unseen(analysis).tables
    parts = {(domain.name, domain.seen): domain for domain in levels.setting.domains}
    assert [domain.name for domain in both.setting.unseen] == [THEMED, GENERATED]
    for one, other in zip(levels.rows, both.rows, strict=True):
        scores = [levels.domains[one.label][parts[name, False]][0] for name in (THEMED, GENERATED)]
        assert (one.unseen, other.unseen) == (pytest.approx(scores[0]), pytest.approx(np.mean(scores)))
        assert (one.label, one.seen) == (other.label, other.seen)
    found = {row.label: row for row in both.rows}
    plain, kd = found["erm"], found["kd"]
    assert kd.difference is not None and kd.difference.interval is not None
    assert kd.difference.value == pytest.approx(kd.unseen - plain.unseen)
    assert kd.difference.interval.low < kd.difference.value < kd.difference.interval.high
