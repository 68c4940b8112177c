"""An hour of training takes as much memory at its end as after its first minutes.

``python benchmarks/reliability/memory.py`` trains each task side by side, on one thread, for so many minutes, with what
keeps state: a teacher, terms with memories, averaging that validates, a learning curve, checkpoints, a logger and, for
images, a worker. ``results/memory.json`` has what each took, minute by minute, its children's share included, and the
slope from the tenth part of the time on.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console

from benchmarks.programs import command_of
from benchmarks.reliability.kills import TASKS
from benchmarks.speed import machine
from common.runs.folder import Run

RESULTS = Path(__file__).parent / "results" / "memory.json"
ENDLESS = {"policies": "total_timesteps=1000000000", "segmentation": "trainer.max_steps=1000000000"}
ALLOWED = 0.02
"""Growth by so much of what it takes, from the first tenth to the end, is the allocator's."""


def resident(process: int) -> float:
    """MiB that a process and its children take; what they share counts once a process."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20 + sum(resident(int(child)) for child in children)


def begun(task: str, work: Path) -> tuple["subprocess.Popen[bytes]", Run]:
    """A task's training that has no end, after its teacher's short one."""
    program, common, method = TASKS[task]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    teacher, run = work / task / "teacher", Run(work / task / "run")
    taught = command_of(program, *common.split(), "method=erm", f"run_dir={teacher}")
    subprocess.run(taught, check=True, stdout=subprocess.DEVNULL, env=environment)
    given = [*common.split(), ENDLESS[task], *method.split(), f"teacher={teacher}", f"run_dir={run.path}"]
    process = subprocess.Popen(command_of(program, *given), stdout=subprocess.DEVNULL, env=environment)
    return process, run


def told(samples: list[float]) -> dict[str, Any]:
    """What was taken, and by how much it grew from the first tenth of the time to its end along a straight line."""
    late = np.array(samples[len(samples) // 10 :])
    slope = np.polyfit(np.arange(len(late)), late, 1)[0] if len(late) > 1 else 0.0
    growth = float(slope * len(late) / late[0])
    return {"mib": [round(one, 1) for one in samples], "growth": round(growth, 4), "flat": growth <= ALLOWED}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=60)
    options = parser.parse_args()
    console = Console()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="memory-") as folder:
        trainings = {task: begun(task, Path(folder)) for task in TASKS}
        samples: dict[str, list[float]] = {task: [] for task in TASKS}
        for minute in range(options.minutes):
            time.sleep(60)
            for task, (process, _) in trainings.items():
                samples[task].append(resident(process.pid))
            console.print(
                f"{minute + 1} min: " + ", ".join(f"{task} {own[-1]:.0f} MiB" for task, own in samples.items())
            )
        for task, (process, run) in trainings.items():
            process.send_signal(signal.SIGINT)  # which saves
            process.wait()
            status = run.status()
            if process.returncode != 130 or status is None:
                raise RuntimeError(f"{task} ended with status {process.returncode} by itself")
            found[task] = {"steps": status.steps, **told(samples[task])}
    RESULTS.write_text(json.dumps({"machine": machine.describe("cpu"), "minutes": options.minutes, **found}) + "\n")
    return 0 if all(one["flat"] for one in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
