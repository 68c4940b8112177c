"""Run folders that something has changed, and what ``kd-report`` makes of them: used, or named, and never an end.

``python benchmarks/reliability/folders.py`` writes sound runs of both tasks, copies and mutates them (the mutations of
``tests/common/report/mutations.py``), and asks for a report of each portion of them. ``results/folders.json`` has how
many folders were used and how many were passed over by name; a traceback, or a folder of which nothing is said, is a
fault.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.speed import machine
from common.report.main import main as report
from common.report.results import collect
from common.runs.folder import Run
from tests.common.report.conftest import identified, policy_run, segmentation_run
from tests.common.report.mutations import FILES, NAMES, reseeded

RESULTS = Path(__file__).parent / "results" / "folders.json"
PORTION = 50


def sound_runs(folder: Path) -> None:
    """Runs that are as they should be: of two tasks, two methods, two seeds."""
    for method in ("erm", "kd"):
        for seed in range(2):
            both = (("last", 1.0), ("averaged", 0.8))
            identified(segmentation_run(folder / f"seg-{method}-{seed}", method, seed, images=4, selections=both))
            identified(policy_run(folder / f"rl-{method}-{seed}", method, seed, 0.7, episodes=6))


def portion(sound: Path, work: Path, numbers: range) -> dict[str, Any]:
    """Mutate a copy for each number, report on all of them, and tell what became of each."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(sound, work / "runs" / "sound")
    names = sorted(path.name for path in sound.iterdir())
    changed: dict[Path, str] = {}
    for number in numbers:
        rng = np.random.default_rng([7, number])
        mutations = NAMES if number % 10 == 9 else FILES
        mutation = mutations[rng.integers(len(mutations))]
        path = work / "runs" / f"{number}-{mutation.__name__}"
        shutil.copytree(sound / names[rng.integers(len(names))], path)
        mutation(reseeded(Run(path), 100 + number), rng)
        changed[path] = mutation.__name__
    out, tracebacks = io.StringIO(), list[str]()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), contextlib.chdir(work):
        try:
            report(["runs", "--resamples", "100"])
        except BaseException:
            tracebacks.append(f"{out.getvalue()[-500:]}{traceback.format_exc()}")
        used = {(work / result.path).resolve() for result in collect(["runs"]).results}
    said = [line for line in out.getvalue().splitlines() if line.startswith("skipped: ")]
    fates: Counter[str] = Counter()
    silent = []
    for path, mutation in changed.items():
        is_used, is_named = path.resolve() in used, any(path.name in line for line in said)
        fates["used" if is_used else "named"] += is_used or is_named
        if not (is_used or is_named or not any(path.iterdir())):
            silent.append(f"{path.name}: {mutation}")
    return {"fates": fates, "silent": silent, "tracebacks": tracebacks}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=int, default=500)
    options = parser.parse_args()
    os.environ["COLUMNS"] = "1000000"  # no line is broken
    total: dict[str, Any] = {"fates": Counter(), "silent": [], "tracebacks": []}
    with tempfile.TemporaryDirectory(prefix="folders-") as work:
        sound_runs(Path(work) / "sound")
        for start in range(0, options.folders, PORTION):
            numbers = range(start, min(start + PORTION, options.folders))
            found = portion(Path(work) / "sound", Path(work) / "portion", numbers)
            for key, value in found.items():
                total[key] += value
            print(f"{numbers.stop} folders: {dict(total['fates'])}, {len(total['tracebacks'])} tracebacks", flush=True)
    result = {
        "machine": machine.describe("cpu"),
        "folders": options.folders,
        **dict(sorted(total["fates"].items())),
        "tracebacks": total["tracebacks"],
        "silent": total["silent"],
    }
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    return int(bool(total["tracebacks"] or total["silent"]))


if __name__ == "__main__":
    sys.exit(main())
