"""A sweep on a Ray cluster of two workers on this machine, where the extra ``ray`` is installed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from common.runs.folder import Run
from tests.nuclei import SMALL_NETWORK

pytest.importorskip("ray")
pytest.importorskip("hydra_plugins.hydra_ray_launcher")

SEEDS = (0, 1)
# Long enough to be killed in mid-course.
STEPS = 60


def sweep(folder: Path, data: Path, *more: str) -> subprocess.Popen[str]:
    command = [
        *(str(Path(sys.executable).parent / "kdseg-train"), "-m", "hydra/launcher=ray"),
        *("+hydra.launcher.ray.init.num_cpus=2", "data=nuclei", f"data.root={data}", "data.target=fluorescence"),
        *("data.batch_size=4", "data.crop_size=32", *SMALL_NETWORK, "evaluation.every=0"),
        *(f"trainer.max_steps={STEPS}", "trainer.accelerator=cpu", "checkpoint_every=5"),
        *(f"run_dir={folder}/${{seed}}", f"seed={','.join(map(str, SEEDS))}", *more),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_DEDUP_LOGS": "0"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=folder
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    said, _ = process.communicate(timeout=400)
    return process.returncode, said


def worker_of(run: Run) -> int:
    """The process that trains a run, once its first checkpoint is there."""
    for _ in range(2000):
        status = run.status() if run.status_path.exists() else None
        if status is not None and 0 < status.steps < STEPS:
            return int(json.loads((run.path / "lock").read_text())["pid"])
        time.sleep(0.05)
    raise AssertionError("no checkpoint came")


def test_a_killed_workers_cell_resumes_and_finished_cells_are_passed_over(small_nuclei: Path, tmp_path: Path) -> None:
    runs = [Run(tmp_path / str(seed)) for seed in SEEDS]
    process = sweep(tmp_path, small_nuclei)
    os.kill(worker_of(runs[0]), signal.SIGKILL)
    status, said = ended(process)
    assert status == 0, said
    assert all(run.finished for run in runs)
    assert "it goes on from step" in said
    weights = [(run.checkpoints / "last.safetensors").stat().st_mtime_ns for run in runs]
    status, said = ended(sweep(tmp_path, small_nuclei))
    assert status == 0, said
    assert said.count("finished already: ") == 2
    assert [(run.checkpoints / "last.safetensors").stat().st_mtime_ns for run in runs] == weights


def test_a_mistake_of_one_job_is_one_line_and_the_other_finishes(small_nuclei: Path, tmp_path: Path) -> None:
    status, said = ended(sweep(tmp_path, small_nuclei, "trainer.max_steps=2", "optimizer.lr=0.001,-1"))
    assert status == 2
    assert sum(line.startswith("error: ") for line in said.splitlines()) == 1
