"""The table of averages, from cells made up for it."""

import json
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from benchmarks.effect import averages

GAINS = (0.10, 0.11, 0.105)


def cell(method: str, seed: int, last: float, averaged: float) -> dict[str, Any]:
    scores = {name: {"unseen": {"purple_on_white": value}} for name, value in (("last", last), ("averaged", averaged))}
    return {"target": "purple_on_white", "method": method, "seed": seed, "steps": 400, "scores": scores}


def test_kd_and_plain_training_are_averaged_by_the_same_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("averages", "committed"):
        monkeypatch.setattr(f"benchmarks.effect.{module}.RESULTS", tmp_path)
    assert averages.section() == []
    cells = [cell("large-0", 100, 0.9, 0.9), cell("erm", 3, 0.0, 0.0)]  # a seed that KD has not
    for seed, gain in enumerate(GAINS):
        cells += [cell("erm", seed, 0.5, 0.6), cell("kd", seed, 0.5 + gain, 0.6)]
        for rule, level in (("swad", 0.7), ("sma", 0.5)):
            # Their last weights are nobody's question.
            cells += [cell(f"erm_{rule}", seed, 0.0, level), cell(f"kd_{rule}", seed, 0.9, level - gain)]
    (tmp_path / "averages.jsonl").write_text("".join(json.dumps(one) + "\n" for one in cells))
    described = {"cells": 18, "of": 30, "device": "a CPU", "date": "today", "versions": {"torch": "2"}}
    (tmp_path / "averages.json").write_text(json.dumps(described))
    lines = averages.section()
    low, high = stats.ttest_1samp([100 * gain for gain in GAINS], 0.0).confidence_interval()
    gained, lost = f"+10.5 [{low:+.1f}, {high:+.1f}] *", f"-10.5 [{-high:+.1f}, {-low:+.1f}] *"
    assert any("purple_on_white, 3 seeds" in line for line in lines)
    assert lines[-5:-1] == [
        f"| none: the last weights | 50.0 | 60.5 | {gained} |  |",
        "| `wakd` | 60.0 | 60.0 | +0.0 [+0.0, +0.0] | +10.0 [+10.0, +10.0] |",
        f"| `swad` | 70.0 | 59.5 | {lost} | +20.0 [+20.0, +20.0] |",
        f"| `sma` | 50.0 | 39.5 | {lost} | +0.0 [+0.0, +0.0] |",
    ]
