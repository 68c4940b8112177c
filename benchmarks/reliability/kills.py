"""Runs that are killed again and again end as one that never was: the same weights, records and items, bit for bit.

``python benchmarks/reliability/kills.py`` trains each task once without interruption, then again in chains of
processes: each is killed at a random moment (SIGKILL, SIGTERM or SIGINT) between its start and its last record, and the
same command is given again, until the run is finished. ``results/<task>.json`` has what came of it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console

from benchmarks.programs import command_of
from benchmarks.speed import machine
from common.runs.folder import Run

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
TASKS = {
    # Averaging with a memory of its losses, a driver with a memory of whose episode it is, a teacher.
    "policies": (
        "kdrl-train",
        "env=starpilot env.num_envs=8 env.threads=0 total_timesteps=6144 ppo.n_steps=32 ppo.batch_size=64 "
        "network.features_dim=32 evaluation.episodes=16 evaluation.looks=[themed] evaluation.every=1024 "
        "evaluation.progress_episodes=8 checkpoint_every=512 device=cpu",
        "method=kddg_sdd driver=mixed averaging=swad",
    ),
    # Terms with memories (an average of the network, the batch before), workers, accumulated gradients.
    "segmentation": (
        "kdseg-train",
        f"data=nuclei data.root={ROOT / 'tests' / 'data' / 'nuclei'} data.target=fluorescence data.batch_size=4 "
        "data.crop_size=48 data.num_workers=1 network.decoder_channels=[16,8,8] trainer.max_steps=60 "
        "trainer.accelerator=cpu +trainer.accumulate_grad_batches=2 evaluation.every=20 checkpoint_every=5",
        "method=ps_kd averaging=swad",
    ),
}


def command(task: str, folder: Path, teacher: Path | None) -> list[str]:
    """The command line of a run; of the teacher's own without one."""
    program, common, method = TASKS[task]
    given = [*common.split(), f"run_dir={folder}"]
    given += ["method=erm", "seed=100"] if teacher is None else [*method.split(), f"teacher={teacher}", "seed=1"]
    return command_of(program, *given)


def differences(ours: Run, theirs: Run) -> Iterator[str]:
    """What differs between two finished runs; seconds may."""
    for path in sorted(theirs.checkpoints.iterdir()):
        other = ours.checkpoints / path.name
        if not other.exists() or other.read_bytes() != path.read_bytes():
            yield f"checkpoints/{path.name}"
    mine, their = ours.items(), theirs.items()
    if list(mine) != list(their):
        yield "items: other keys"
    yield from (f"items: {key}" for key in their if not np.array_equal(mine.get(key, np.empty(0)), their[key]))
    rows = [[{**vars(row), "seconds": 0} for row in run.records()] for run in (ours, theirs)]
    if rows[0] != rows[1]:
        yield f"records: {len(rows[0])} and {len(rows[1])}"


def killed(task: str, folder: Path, teacher: Path, kills: int, longest: float, dice: random.Random) -> list[Any]:
    """Train into ``folder``, killed so many times, to the end; what came of each process that was killed."""
    events: list[Any] = []
    while True:
        process = subprocess.Popen(command(task, folder, teacher), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        number = None if len(events) == kills else dice.choice(SIGNALS)
        if number is not None:
            # Mostly after the libraries are there: importing them is the longer part of so short a run.
            while dice.random() < 0.99 and process.poll() is None and not working(folder, process.pid):
                time.sleep(0.05)
            try:
                process.wait(dice.uniform(0, 0.9 * longest))
            except subprocess.TimeoutExpired:
                process.send_signal(number)
        output, _ = process.communicate()
        if process.returncode == 0:
            return events
        if number is None:
            raise RuntimeError(output.decode())
        status = Run(folder).status()
        where = "before it began" if status is None else f"{status.stage}, {status.steps} of {status.of}"
        known = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}
        # A signal that comes while the libraries are being imported meets Python's own handlers.
        early = (-15, 1, -2, 130)
        if process.returncode != known[number] and process.returncode not in early:
            raise RuntimeError(f"status {process.returncode} after {number}: {output.decode()}")
        events.append([signal.Signals(number).name, process.returncode, where])
        if Run(folder).finished:  # it was killed on its way out
            return events


def working(folder: Path, process: int) -> bool:
    """Whether the process has taken the folder."""
    lock = folder / "lock"
    return lock.exists() and f'"pid": {process},' in lock.read_text()


def check(console: Console, task: str, work: Path, kills: int, chain: int) -> dict[str, Any]:
    """Kill a task so many times, ``chain`` times a run, and compare each run with one that was left alone."""
    dice = random.Random(task)
    teacher, whole = work / task / "teacher", work / task / "whole"
    subprocess.run(command(task, teacher, None), check=True, stdout=subprocess.DEVNULL)
    with subprocess.Popen(command(task, whole, teacher), stdout=subprocess.DEVNULL) as process:
        while not working(whole, process.pid):
            time.sleep(0.05)
        started = time.perf_counter()
        process.wait()
    longest = time.perf_counter() - started
    events: list[Any] = []
    found: list[str] = []
    number = 0
    while len(events) < kills:
        folder = work / task / f"killed-{number}"
        events += killed(task, folder, teacher, min(chain, kills - len(events)), longest, dice)
        found += [f"{number}: {line}" for line in differences(Run(folder), Run(whole))]
        console.print(f"{task}: {len(events)} of {kills} kills, {len(found)} differences")
        number += 1
    return {"kills": len(events), "runs": number, "seconds": round(longest, 1), "differences": found, "events": events}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=list(TASKS), help="policies, segmentation; both by default")
    parser.add_argument("--kills", type=int, default=25, help="how many a task")
    parser.add_argument("--chain", type=int, default=4, help="how many a run")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    console = Console()
    work = Path(tempfile.mkdtemp(prefix="kills-"))
    failed = False
    RESULTS.mkdir(exist_ok=True)
    for task in options.tasks:
        found = check(console, task, work, options.kills, options.chain)
        described = {"machine": machine.describe("cpu"), **found}
        (RESULTS / f"{task}.json").write_text(json.dumps(described, indent=1) + "\n")
        failed = failed or bool(found["differences"])
    shutil.rmtree(work)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
