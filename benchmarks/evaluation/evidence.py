"""Runs that are finished, measured and put side by side: what evidence is made of."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from benchmarks.programs import call
from common.evaluation.conditions import condition
from common.runs.folder import Run

RESULTS = Path(__file__).parent / "results"
KINDS = {"corruption", "attack", "unknown", "analysis"}


def measured(run: Run, program: str, options: Sequence[str]) -> None:
    """Have a program measure a run, as far as it is not done."""
    if KINDS - {done.kind for row in run.measures() if (done := condition(row.condition)) is not None}:
        call(program, f"run={run.path}", *options)


def report(runs: Sequence[Run], name: str, *options: str) -> None:
    """The runs' tables as ``results/<name>.md`` and every number as ``results/<name>.csv``."""
    out = runs[0].path.parent / "report"
    call("kd-report", *(str(run.path) for run in runs), "--out", str(out), *options)
    RESULTS.mkdir(exist_ok=True)
    for source, kind in (("report.md", "md"), ("measures.csv", "csv")):
        shutil.copy(out / source, RESULTS / f"{name}.{kind}")
