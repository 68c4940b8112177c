"""Names of folders, domains, classes and methods that mean something to a terminal, a sheet or a plot, end to end."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import kdseg.evaluate
import kdseg.train
from common.report.main import main as report
from common.runs.folder import Run
from tests.nuclei import SMALL_NETWORK

DOMAINS = {
    "fluorescence": "$a_$",
    "grey_brightfield": "[old]|x",
    "purple_on_purple": "=cmd",
    "purple_on_white": "2020_01",
}


@pytest.fixture
def hostile(small_nuclei: Path, tmp_path: Path) -> Path:
    root = tmp_path / "d[/x] é"
    for name, odd in DOMAINS.items():
        shutil.copytree(small_nuclei / name, root / odd)
    return root


def test_they_are_names_in_every_program(
    hostile: Path, call: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "400")
    for seed in range(2):
        for method, name in (("erm", "erm"), ("sd_dropout", "[red]x")):
            outcome = call(
                *(kdseg.train.main, "data=folder", f"data.root={hostile}", "data.target=2020_01", f"seed={seed}"),
                *("data.sources=[$a_$,'[old]|x',=cmd]", "data.class_names=['=1+1','[b]$x$']", f"method={method}"),
                *(f"method.name={name}", "data.batch_size=3", "data.crop_size=32", "trainer.max_steps=2"),
                *(*SMALL_NETWORK, "trainer.accelerator=cpu", "evaluation.every=1"),
                f"run_dir={tmp_path}/runs/[/x] {name} {seed}",
            )
            assert outcome.status == 0, outcome.err
            assert "$a_$: 12 images" in outcome.out and "│ [old]|x" in outcome.out
    run = Run(tmp_path / "runs" / "[/x] erm 0")
    assert {record.domain for record in run.records() if record.split == "test"} == set(DOMAINS.values())
    outcome = call(kdseg.evaluate.main, f"run={run.path}", f"out={tmp_path}/runs/[judged] =a", "target=$a_$")
    assert outcome.status == 0, outcome.err
    capsys.readouterr()
    report([str(tmp_path / "runs"), "--out", str(tmp_path / "[out]"), "--resamples", "100"])
    printed = capsys.readouterr().out
    assert "trained on $a_$, [old]|x, =cmd" in printed and "\n[red]x " in printed
    with (tmp_path / "[out]" / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["target"] for row in rows} >= {"2020_01"} and {row["method"] for row in rows} >= {"erm", "[red]x"}
    assert not any(cell[:1] in ("=", "@", "\t") for row in rows for cell in row.values() if cell)
    page = (tmp_path / "[out]" / "report.html").read_text()
    assert "=1+1" in page and "[b]$x$" in page
