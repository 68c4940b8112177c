"""What was measured beside the score: a run's numbers, and their table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from benchmarks.effect import comparison, measured
from benchmarks.effect.grids import GRIDS
from common.runs.folder import Run
from tests.rows import make_record


def test_a_runs_numbers_are_means_over_conditions_on_what_is_unseen(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert measured.numbers(run) == {}
    told = [
        ("corruption/none", "miou", 0.8, False),
        ("corruption/none", "ece", 0.1, False),
        ("corruption/fog/3", "miou", 0.4, False),
        ("corruption/jpeg_compression/3", "miou", 0.6, False),
        ("corruption/fog/3", "ece", 0.2, False),
        ("corruption/fog/3", "miou", 0.9, True),  # of a domain that training has seen
        ("attack/fgsm/0", "miou", 0.8, False),
        ("attack/fgsm/1", "miou", 0.3, False),
        ("attack/fgsm/4", "miou", 0.1, False),
        ("unknown/images", "auroc/energy", 0.7, False),
        ("unknown/images", "auroc/odin", 0.9, False),
        ("analysis", "flatness", 2.0, False),
    ]
    run.append_measures(
        make_record(condition=condition, metric=metric, value=value, seen=seen)
        for condition, metric, value, seen in told
    )
    expected = {"clean": 0.8, "corrupted": 0.5, "attacked": 0.3, "corrupted_ece": 0.2, "unknown": 0.7}
    assert measured.numbers(run) == expected


def cell(method: str, seed: int, target: str, value: float) -> dict[str, Any]:
    numbers = dict.fromkeys(measured.COLUMNS, 0.5) | {"corrupted": value}
    return {"method": method, "seed": seed, "target": target, "measured": numbers}


def test_differences_are_paired_by_seed_and_of_seeds_with_all_targets() -> None:
    targets, gains = list(GRIDS["one_labelled"].targets), (0.10, 0.11, 0.105)
    rows = [cell("erm", seed, target, 0.1 * seed) for seed in range(3) for target in targets]
    rows += [cell("kd", seed, target, 0.1 * seed + gain) for seed, gain in enumerate(gains) for target in targets]
    rows += [cell("kddg", 0, targets[0], 1.0)]  # of one target alone
    assert measured.section("one_labelled", [row for row in rows if row["method"] == "kd"]) == []
    lines = measured.section("one_labelled", rows)
    assert any("3 seeds" in line for line in lines) and not any("kddg" in line for line in lines)
    low, high = stats.ttest_1samp(100 * np.array(gains), 0.0).confidence_interval()
    assert lines[-2] == "| **erm** | 50.0 | 10.0 | 50.0 | 50.0 | 50.0 |"
    unmoved = "+0.0 [+0.0, +0.0]"
    corrupted = f"+10.5 [{low:+.1f}, {high:+.1f}] *"
    assert lines[-1] == f"| `kd` | {unmoved} | {corrupted} | {unmoved} | {unmoved} | {unmoved} |"


@pytest.mark.parametrize(("differences", "shown"), [([0.02], "+2.0"), ([-0.03, -0.01], "-2.0 [-14.7, +10.7]")])
def test_one_seed_has_no_interval(differences: list[float], shown: str) -> None:
    assert comparison.over_seeds([np.array(differences)]) == [shown]
