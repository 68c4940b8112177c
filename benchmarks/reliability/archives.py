"""Files of numbers that something has changed: states to go on from, weights, a teacher's weights, items of a test.

``python benchmarks/reliability/archives.py`` trains a teacher, a student and one that is killed on the way, of both
tasks, copies and changes one file of theirs at a time, and gives the program that reads it. It may refuse in one line,
say what it passed over, or do what it would have done; going on from an earlier state must come to the weights, records
and items of a run that was left alone, bit for bit. ``results/archives.json`` counts them; a traceback, another end, a
file that ran something or another file that changed is a fault.
"""

import argparse
import contextlib
import hashlib
import io
import json
import pickle
import shutil
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

import pytest
import torch

import kdrl.evaluate
import kdseg.evaluate
from benchmarks.reliability.kills import differences
from benchmarks.speed import machine
from common.report.main import main as report
from common.runs.folder import Run
from tests.nuclei import corners_of_nuclei
from tests.odd_bytes import Harm, cut, flipped
from tests.odd_settings import ended, ill_refused
from tests.test_resume import PROGRAMS, dies_after, with_data

RESULTS = Path(__file__).parent / "results" / "archives.json"
JUDGE: dict[str, tuple[Callable[[], None], tuple[str, ...]]] = {
    "policies": (kdrl.evaluate.main, ("device=cpu", "episodes=2", "num_envs=2", "looks=[]")),
    "segmentation": (kdseg.evaluate.main, ("device=cpu",)),
}


Rng = np.random.Generator


def zeroed(content: bytes, rng: Rng) -> bytes:
    start = int(rng.integers(len(content)))
    size = min(4096, len(content) - start)
    return content[:start] + bytes(size) + content[start + size :]


def doubled(content: bytes, rng: Rng) -> bytes:
    return content + content[: rng.integers(len(content))]


def pickled(content: bytes, rng: Rng) -> bytes:
    return pickle.dumps(Harm())


def torch_archive(content: bytes, rng: Rng) -> bytes:
    """Torch's own format with something to run in it."""
    buffer = io.BytesIO()
    torch.save({"state": Harm()}, buffer)
    return buffer.getvalue()


def zipped(content: bytes, rng: Rng) -> bytes:
    """An archive of arrays of which one is a pickle."""
    buffer, array = io.BytesIO(), io.BytesIO()
    np.save(array, np.array([Harm()], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("confusion|fluorescence|unseen.npy", array.getvalue())
    return buffer.getvalue()


MUTATIONS = (cut, flipped, zeroed, doubled, pickled, torch_archive, zipped)


class Case:
    """A task with its teacher, a run that was left alone, and one that was killed after three states."""

    def __init__(self, task: str, folder: Path, data: Path) -> None:
        self.task, self.program, self.folder = task, with_data(task, data), folder
        self.train(folder / "teacher", ("method=erm", "seed=100"))
        self.train(folder / "whole")
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(RuntimeError):
            dies_after(patch, 3)
            self.train(folder / "killed")

    def arguments(self, run: Path, method: Sequence[str] = (), teacher: Path | None = None) -> list[str]:
        taught = (*self.program.method, f"teacher={teacher or self.folder / 'teacher'}", "seed=1")
        return [*self.program.arguments, *(method or taught), f"run_dir={run}"]

    def train(self, run: Path, method: Sequence[str] = ()) -> None:
        fate = self.tried(self.program.main, self.arguments(run, method))
        if isinstance(fate, str) or fate.status:
            raise RuntimeError(fate if isinstance(fate, str) else fate.error)

    @staticmethod
    def tried(main: Callable[..., Any], arguments: Sequence[str]) -> Any:
        return ended(lambda _: main(), arguments)


def changed(path: Path, rng: Rng) -> str:
    """Change a file; the mutation's name. What would run something may come with a checksum of its own in the list."""
    mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
    path.write_bytes(mutation(path.read_bytes(), rng))
    manifest = path.with_name("states.json")
    if path.name.startswith("state-") and mutation in (pickled, torch_archive, zipped) and rng.random() < 0.5:
        entries = json.loads(manifest.read_text())
        for entry in entries:
            if entry["file"] == path.name:
                entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        manifest.write_text(json.dumps(entries))
        return f"{mutation.__name__}, under its own checksum"
    return mutation.__name__


def attempt(case: Case, kind: str, work: Path, rng: Rng) -> tuple[str, str, list[str]]:
    """One changed file: what was changed, what became of it, and what is wrong with that."""
    copy = work / "copy"
    shutil.copytree(case.folder / {"states": "killed", "teachers": "teacher"}.get(kind, "whole"), copy)
    files = sorted(
        copy.glob({"states": "checkpoints/state-*.pt", "items": "items.npz"}.get(kind, "checkpoints/*.safetensors"))
    )
    path = files[rng.integers(len(files))]
    what = f"{case.task}, {path.name}: {changed(path, rng)}"
    before = {one: one.read_bytes() for one in copy.rglob("*") if one.is_file() and one.name != "lock"}
    if kind == "states":
        fate = case.tried(case.program.main, case.arguments(copy))
    elif kind == "teachers":
        fate = case.tried(case.program.main, case.arguments(work / "student", teacher=copy))
    elif kind == "weights":
        main, shared = JUDGE[case.task]
        fate = case.tried(main, [f"run={copy}", f"weights={path.stem}", f"out={work / 'out'}", *shared])
    else:
        fate = case.tried(report, [str(copy), "--out", str(work / "page"), "--resamples", "20"])
    wrong = []
    if (harm := Path("harm")).exists():
        wrong.append("something ran")
        harm.unlink()
    if isinstance(fate, str):
        return what, "traceback", [*wrong, fate[-1500:]]
    if fate.status and (ill := ill_refused(fate)):
        wrong.append(ill)
    if kind == "states" and fate.status == 0:
        wrong += differences(Run(copy), Run(case.folder / "whole"))
    elif any(not one.is_file() or one.read_bytes() != content for one, content in before.items()):
        wrong.append("a file that is not the program's was changed")
    return what, "refused" if fate.status else "used, or passed over", wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = ("states", "weights", "teachers", "items")
    fates: dict[str, Counter[str]] = {kind: Counter() for kind in kinds}
    faults: list[list[str]] = []
    with tempfile.TemporaryDirectory(prefix="archives-") as name, contextlib.chdir(name):
        data = corners_of_nuclei(Path(name) / "nuclei")
        cases = [Case(task, Path(name) / task, data) for task in PROGRAMS]
        for number in range(options.files):
            rng, kind = np.random.default_rng([13, number]), kinds[number % len(kinds)]
            with tempfile.TemporaryDirectory(prefix="one-") as work:
                what, fate, wrong = attempt(cases[number // len(kinds) % len(cases)], kind, Path(work), rng)
            fates[kind][fate] += 1
            faults += [[what, one] for one in wrong]
            print(f"{number + 1} of {options.files} files, {len(faults)} faults; {what}: {fate}", flush=True)
    counted = {kind: dict(sorted(of_kind.items())) for kind, of_kind in fates.items()}
    found = {"machine": machine.describe("cpu"), "files": options.files, **counted, "faults": faults}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
