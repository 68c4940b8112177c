"""The comparison of AuG-KD with its baselines: a cell of every row, and tables that add up."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks.augkd import digits, nuclei, table
from benchmarks.lines import read
from common.augkd import Preparation


def test_every_row_of_the_digits_is_a_cell_and_none_is_trained_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "WORK", tmp_path / "work")
    monkeypatch.setattr(digits, "STEPS", 2)
    monkeypatch.setattr(digits, "TEACHER_STEPS", 2)
    monkeypatch.setattr(digits, "PARTS", (0.05,))
    monkeypatch.setattr(digits, "PREPARATION", Preparation(latent=4, width=2, data_free_rounds=2, anchor_rounds=2))
    path = tmp_path / "digits.jsonl"
    threads = torch.get_num_threads()
    digits.run_seed(0, path)
    torch.set_num_threads(threads)
    lines = read(path)
    found = {(line["part"], line["row"]) for line in lines}
    assert found == {(0.05, row) for row in digits.ROWS} | {(0.0, "teacher")}
    digits.run_seed(0, path)
    assert len(read(path)) == len(lines)
    assert set(table.NAMES) >= set(digits.ROWS) | set(nuclei.ROWS)


def test_a_table_is_paired_by_seed_and_takes_the_seeds_that_all_rows_have() -> None:
    lines: list[dict[str, Any]] = [
        {"row": row, "seed": seed, "own": value}
        for row, values in {"labels": [0.5, 0.6, 0.7], "augkd": [0.6, 0.8, 0.75], "kd": [0.4, 0.5]}.items()
        for seed, value in enumerate(values)
    ]
    rows = table.complete(lines)
    assert {seed for by_seed in rows.values() for seed in by_seed} == {0, 1}
    text = {line.split(" | ")[0]: line for line in table.table(rows, "own")}
    interval = stats.ttest_1samp(np.array([10.0, 20.0]), 0.0).confidence_interval()
    assert f"| 70.0 | +15.0 [{interval.low:+.1f}, {interval.high:+.1f}]" in text["| **AuG-KD**"]
    assert "| 55.0 |" in text["| **own labels alone**"]


def test_held_out_images_are_nobodys_to_train_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(__file__).parents[1] / "data" / "nuclei"
    monkeypatch.setattr(nuclei, "RUNS", tmp_path)
    for part in nuclei.PARTS:
        root = nuclei.folder_of(data, "purple_on_white", part, seed=1)
        names = [
            {path.name for path in (root / domain / "images").iterdir()} for domain in ("purple_on_white", "held_out")
        ]
        assert not names[0] & names[1]
        assert all(len(one) >= 1 for one in names)
