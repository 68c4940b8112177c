"""Disks that are full at every moment: one line is said, nothing that was saved is lost, and there is a way on.

``python benchmarks/reliability/full_disk.py`` (as root: it mounts small file systems in memory) gives each task's
training, and the programs that write something of a run, disks of so many sizes between nothing and the most that they
hold on the way, which is more than what is left in the end. A training that ended for want of room is given more, and
the same command again: it must come to the same bits as one that had room from the start. ``results/full_disk.json``
has what came of each size; a traceback, a success without its output, or a difference is a fault.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console

from benchmarks.programs import command_of
from benchmarks.reliability.kills import ROOT, TASKS, command, differences
from benchmarks.speed import machine
from common.runs.folder import Run

RESULTS = Path(__file__).parent / "results" / "full_disk.json"
PLENTY = 256 * 2**20
SPARE = 1.1
"""The largest disk, in what is held at most."""


@contextlib.contextmanager
def disk(place: Path, size: int) -> Iterator[Path]:
    """A file system of so many bytes."""
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def enlarge(place: Path) -> None:
    """Give a file system plenty of room."""
    subprocess.run(["mount", "-o", f"remount,size={PLENTY}", str(place)], check=True)


def peak_of(given: Sequence[str], place: Path) -> int:
    """Run a program to its end on such a disk; the most bytes that were taken of it."""
    peak = 0
    with subprocess.Popen(given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, taken(place))
            time.sleep(0.002)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(given))
    return max(peak, taken(place))


def taken(place: Path) -> int:
    """Bytes of a disk that are not free."""
    size = os.statvfs(place)
    return (size.f_blocks - size.f_bfree) * size.f_frsize


def faults_of(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """What is wrong with how a program that may lack room ended."""
    lines = done.stderr.strip().splitlines()
    found = []
    if "Traceback" in done.stdout + done.stderr:
        found.append(f"a traceback: {lines[-1] if lines else ''}")
    if done.returncode and (not lines or not lines[-1].startswith("error: ")):
        found.append(f"status {done.returncode} without a line that says why: {lines[-1:]}")
    elif done.returncode not in (0, 2):
        found.append(f"status {done.returncode}, as if nobody had foreseen it: {lines[-1]}")
    return found


def run(given: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(given, capture_output=True, text=True)


def training(task: str, work: Path, sizes: int, console: Console) -> dict[str, Any]:
    """A training on disks of so many sizes."""
    teacher, whole, place = work / task / "teacher", work / task / "whole", work / task / "disk"
    subprocess.run(command(task, teacher, None), check=True, stdout=subprocess.DEVNULL)
    with disk(place, PLENTY):
        peak = peak_of(command(task, place / "run", teacher), place)
        shutil.copytree(place / "run", whole)
    events, faults = [], []
    for size in np.linspace(8192, SPARE * peak, sizes).astype(int):
        with disk(place, int(size)):
            given = command(task, place / "run", teacher)
            first = run(given)
            status = Run(place / "run").status() if (place / "run" / "status.json").exists() else None
            where = "before it began" if status is None else f"{status.stage}, {status.steps} of {status.of}"
            found = faults_of(first)
            enlarge(place)
            if first.returncode:
                second = run(given)
                found += [f"again: {second.stderr.strip()[-300:]}"] if second.returncode else []
            found += [] if found else list(differences(Run(place / "run"), Run(whole)))
        events.append([int(size), first.returncode, where])
        faults += [f"{size}: {one}" for one in found]
        console.print(
            f"{task}: {int(size):,} bytes, status {first.returncode}, {where}", *found, sep="\n  ", markup=False
        )
    return {"peak": peak, "events": events, "faults": faults}


def programs(work: Path) -> dict[str, list[str]]:
    """What is made of a finished run, by a program's name; ``OUT`` is where to."""
    policy, network = (str(work / task / "whole") for task in ("policies", "segmentation"))
    images = str(ROOT / "tests" / "data" / "nuclei" / "fluorescence" / "images")
    return {
        "kd-report": [network, policy, "--out", "OUT/report"],
        "kdseg-predict": [f"run={network}", f"images={images}", "out=OUT/predictions"],
        "kdseg-export": [f"run={network}", "out=OUT/shared"],
        "kdrl-export": [f"run={policy}", "out=OUT/shared"],
        "kdrl-play": [f"run={policy}", "out=OUT/film.webp"],
        "kdseg-evaluate": [f"run={network}", "out=OUT/judged"],
    }


def writing(name: str, given: Sequence[str], work: Path, sizes: int, console: Console) -> dict[str, Any]:
    """A program that writes something of a run, on disks of so many sizes."""
    place = work / "disk"

    def asked(out: Path) -> list[str]:
        return command_of(name, *(one.replace("OUT", str(out)) for one in given))

    def there() -> set[str]:
        return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}

    with disk(place, PLENTY):
        peak, wanted = peak_of(asked(place), place), there()
    events, faults = [], []
    for size in np.linspace(4096, SPARE * peak, sizes).astype(int):
        with disk(place, int(size)):
            done = run(asked(place))
            found = faults_of(done)
            if done.returncode == 0 and there() != wanted:
                found.append(f"success without {sorted(wanted - there())}")
        events.append([int(size), done.returncode])
        faults += [f"{size}: {one}" for one in found]
        console.print(f"{name}: {int(size):,} bytes, status {done.returncode}", *found, sep="\n  ", markup=False)
    return {"peak": peak, "events": events, "faults": faults}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=20, help="disks a training; other programs have a third of it")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    console, work = Console(), Path(tempfile.mkdtemp(prefix="full-disk-"))
    found = {task: training(task, work, options.sizes, console) for task in TASKS}
    for name, given in programs(work).items():
        found[name] = writing(name, given, work, options.sizes // 3, console)
    shutil.rmtree(work)
    RESULTS.write_text(json.dumps({"machine": machine.describe("cpu"), **found}, indent=1) + "\n")
    return int(any(one["faults"] for one in found.values()))


if __name__ == "__main__":
    sys.exit(main())
