"""Situations of every day: a read-only disk, two processes, names that need quoting, a run without its data.

``python benchmarks/reliability/situations.py`` (as root: it mounts file systems in memory) puts the real programs into
each and writes ``results/situations.json``: what was typed, how it ended and what it said last. A traceback, an end
other than the one expected, or a refusal in more than one line is a fault. The clock needs no situation: durations are
of a monotonic clock, and the time of day is in the lock alone, as text.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console

from benchmarks.programs import command_of
from benchmarks.reliability.full_disk import disk, faults_of
from benchmarks.reliability.kills import ROOT, TASKS, working
from benchmarks.speed import machine

RESULTS = Path(__file__).parent / "results" / "situations.json"
NUCLEI = ROOT / "tests" / "data" / "nuclei"
NAMES = ("two words", "größe-中文-🙂", "it's $HOME [x] 100%", "n" * 200)
"""Of folders. A name of more than 255 bytes is no name on Linux."""


class Step(NamedTuple):
    """One command of a situation.

    Attributes:
        given: The command line.
        expected: How it is to end: 0, or 2 for what is refused in one line.
    """

    given: list[str]
    expected: int = 0


def quoted(name: object, value: object) -> str:
    """An override whose value is any text, as ``docs/reference/configuration.md`` has it."""
    text = str(value).replace("\\", "\\\\").replace("'", "\\'")
    return f"{name}='{text}'"


def training(task: str, folder: Path, root: Path = NUCLEI) -> list[str]:
    """A short training of a task into a folder."""
    program, common, _ = TASKS[task]
    given = [one for one in common.split() if not one.startswith("data.root=")]
    given += [] if task == "policies" else [quoted("data.root", root)]
    return [program, *given, "method=erm", quoted("run_dir", folder)]


def names(work: Path) -> Iterator[Step]:
    """Runs and data in folders of odd names, trained, judged and reported."""
    for number, name in enumerate(NAMES):
        root = work / f"data-{number}" / name
        shutil.copytree(NUCLEI, root)
        for task, judge in (("policies", "kdrl-evaluate"), ("segmentation", "kdseg-evaluate")):
            run = work / f"{task}-{number}" / name / "run"
            yield Step(training(task, run, root))
            yield Step([judge, quoted("run", run), "measures=[analysis]", "most=4"])
            yield Step(["kd-report", str(run.parent), "--out", str(work / f"{task}-{number}" / f"report {name}"[:250])])


def read_only(work: Path) -> Iterator[Step]:
    """Runs on a disk that cannot be written to: reported and shared to elsewhere, refused as a place to write."""
    with disk(work / "disk", 64 * 2**20) as place:
        for task in TASKS:
            yield Step(training(task, place / task))
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        yield Step(["kd-report", str(place), "--out", str(work / "report")])
        yield Step(["kd-report", str(place), "--out", str(place / "report")], 2)
        for task, tool in (("policies", "kdrl"), ("segmentation", "kdseg")):
            yield Step(training(task, place / "other"), 2)
            yield Step([f"{tool}-evaluate", quoted("run", place / task), "measures=[analysis]", "most=4"], 2)
            yield Step([f"{tool}-evaluate", quoted("run", place / task), quoted("out", work / f"judged-{task}")])
            yield Step([f"{tool}-export", quoted("run", place / task), quoted("out", work / f"shared-{task}")])


def without_data(work: Path) -> Iterator[Step]:
    """A run copied to a machine that lacks its images: reported, predicted with, judged on other images."""
    root, run = work / "data", work / "run"
    shutil.copytree(NUCLEI, root)
    yield Step(training("segmentation", run, root))
    shutil.move(run, work / "elsewhere" / "run")
    shutil.move(root, work / "elsewhere" / "other")
    run, root = work / "elsewhere" / "run", work / "elsewhere" / "other"
    images = root / "fluorescence" / "images"
    yield Step(["kd-report", str(run.parent), "--out", str(work / "report")])
    yield Step(["kdseg-predict", quoted("run", run), quoted("images", images), quoted("out", work / "predictions")])
    yield Step(["kdseg-evaluate", quoted("run", run), quoted("out", work / "judged")], 2)
    yield Step(["kdseg-evaluate", quoted("run", run), quoted("root", root), quoted("out", work / "judged")])
    yield Step(["kdseg-export", quoted("run", run), quoted("out", work / "shared")])


def two_processes(work: Path) -> Iterator[Step]:
    """A second training in a folder where one is at work is refused, and the first one ends well."""
    for task in TASKS:
        folder = work / task
        with subprocess.Popen(command_of(*training(task, folder)), stdout=subprocess.DEVNULL) as first:
            while first.poll() is None and not working(folder, first.pid):
                pass
            yield Step(training(task, folder), 2)
            if first.wait() != 0:
                raise RuntimeError(f"the first process of {task} ended with {first.returncode}")
        yield Step(training(task, folder), 2)  # finished: never overwritten


SITUATIONS: dict[str, Callable[[Path], Iterator[Step]]] = {
    "names": names,
    "read-only": read_only,
    "without its data": without_data,
    "two processes": two_processes,
}


def tried(step: Step, work: Path) -> tuple[dict[str, object], list[str]]:
    """What came of a step, and what is wrong with it; places of this machine are left out."""

    def told(text: str) -> str:
        return text.replace(str(work), "WORK").replace(f"{ROOT}/", "")

    done = subprocess.run(command_of(*step.given), capture_output=True, text=True)
    said = (done.stderr or done.stdout).strip().splitlines()
    faults = faults_of(done)
    if done.returncode != step.expected:
        faults.append(f"status {done.returncode}, not {step.expected}")
    if step.expected and len(done.stderr.strip().splitlines()) != 1:
        faults.append(f"{len(done.stderr.strip().splitlines())} lines of error")
    given, said = [told(one) for one in step.given], [told(one) for one in said[-1:]]
    return {"given": given, "status": done.returncode, "said": said}, [f"{' '.join(given)}: {one}" for one in faults]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("situations", nargs="*", default=list(SITUATIONS), help=f"{', '.join(SITUATIONS)}; all of them")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    console, found, failed = Console(), {}, 0
    for name in options.situations:
        work = Path(tempfile.mkdtemp(prefix="situations-"))
        steps, faults = [], []
        for step in SITUATIONS[name](work):
            outcome, wrong = tried(step, work)
            steps.append(outcome)
            faults += wrong
            console.print(f"{name}: {step.given[0]} {outcome['status']}", outcome["said"], *wrong, markup=False)
        shutil.rmtree(work)
        found[name] = {"steps": len(steps), "faults": faults, "tried": steps}
        failed += len(faults)
    text = json.dumps({"machine": machine.describe("cpu"), **found}, indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
