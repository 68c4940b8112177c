"""AuG-KD on CoinRun: a teacher of the look ``themed``, a student in the look ``plain`` with few steps.

Run: ``python benchmarks/augkd/policies.py``. Every cell is a run of ``kdrl-train`` in ``runs/augkd-policies``; a
finished one is never run again, and a line of ``results/policies.jsonl``. All students share one teacher.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.augkd.digits import CONSTANT
from benchmarks.lines import append, read
from benchmarks.programs import call
from common.augkd.folder import ArtefactFolder
from common.runs.folder import Run

RESULTS = Path(__file__).parent / "results" / "policies.jsonl"
RUNS = Path("runs/augkd-policies")
SHARED = (
    *("env=coinrun", "env.threads=0", "evaluation.every=0", "evaluation.episodes=256", "evaluation.looks=[]"),
    "device=cpu",
)
TEACHER = ("env.look=themed", "total_timesteps=1000000", "seed=100")
STUDENT = ("env.look=plain", "total_timesteps=131072", "ppo.n_steps=64", "ppo.batch_size=1024")
ROWS: dict[str, tuple[str, ...]] = {
    "labels": ("method=erm",),
    "kd": ("method=kd",),
    "augkd": ("method=augkd",),
    # Only the first weights are AuG-KD's.
    "data_free": ("method=augkd", "method.terms.augkd.weight=0", "method.terms.augkd.real=1.0"),
    "augkd_no_anchor": ("method=augkd", "method.terms.augkd.anchored=false"),
    "augkd_no_curriculum": ("method=augkd", f"method.terms.augkd.real={CONSTANT}"),
    "augkd_everywhere": ("method=augkd", "method.terms.augkd.agreeing=false"),
    "augkd_fresh": ("method=augkd", "method.terms.augkd.start=fresh"),
}


def returns(run: Run) -> dict[str, float]:
    """Normalised returns in the student's look, on the levels it has seen and on others."""
    found = {}
    for record in run.records():
        here = record.split == "test" and record.metric == "normalized_return" and record.domain == "coinrun/plain"
        if here:
            found["seen" if record.seen else "unseen"] = round(record.value, 6)
    return found


def teacher() -> Path:
    """The one that all students share."""
    path = RUNS / "teacher"
    if not Run(path).finished:
        call("kdrl-train", *SHARED, *TEACHER, f"run_dir={path}")
    if not any(line["row"] == "teacher" for line in read(RESULTS)):
        out = RUNS / "teacher-plain"
        if not Run(out).finished:
            call("kdrl-evaluate", f"run={path}", "looks=[plain]", "episodes=256", f"out={out}")
        append(RESULTS, {"row": "teacher", "seed": -1, **returns(Run(out))})
    return path


def cell(taught: Path, row: str, seed: int) -> None:
    """One run, and its line."""
    path = RUNS / f"{row}-{seed}"
    taken = (f"anchor={RUNS / f'augkd-{seed}'}",) if "method=augkd" in ROWS[row] and row != "augkd" else ()
    asked = () if row == "labels" else (f"teacher={taught}",)
    if not Run(path).finished:
        call("kdrl-train", *SHARED, *STUDENT, *ROWS[row], *taken, *asked, f"seed={seed}", f"run_dir={path}")
    status = Run(path).status()
    assert status is not None
    line: dict[str, Any] = {"row": row, "seed": seed, **returns(Run(path)), "seconds": round(status.seconds, 1)}
    if row == "augkd":
        artefact = ArtefactFolder(Run(path).anchor)
        line["costs"] = {name: round(facts.seconds, 1) for name, facts in artefact.stages.items()}
        line["measured"] = {name: round(value, 4) for name, value in artefact.measured.items()}
    append(RESULTS, line)
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    taught = teacher()
    for seed in range(options.seeds):
        done = {line["row"] for line in read(RESULTS) if line["seed"] == seed}
        missing = [row for row in ROWS if row not in done]
        if "augkd" in missing:  # whose artefact the others take
            cell(taught, "augkd", seed)
        with ThreadPoolExecutor(options.processes) as pool:
            list(pool.map(lambda row, seed=seed: cell(taught, row, seed), [row for row in missing if row != "augkd"]))


if __name__ == "__main__":
    main()
