"""The same of policies: what teachers do for robustness and detection on CoinRun, three seeds.

Run: ``python benchmarks/augkd/policies.py``, which trains them in ``runs/augkd-policies``, then
``python benchmarks/evaluation/coinrun.py``: students in the look ``plain`` without a teacher, with one of the look
``themed``, and with AuG-KD's way to ask it. Tables: ``results/coinrun.md``, numbers: ``results/coinrun.csv``.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.augkd.policies import RUNS
from benchmarks.evaluation.evidence import measured, report
from common.runs.folder import Run

MEASURES = ("experiment=quick", "most=32", "looks=[]", "episodes=32", "device=cpu")
ROWS = ("labels", "kd", "augkd")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    runs = [Run(RUNS / f"{row}-{seed}") for seed in range(options.seeds) for row in ROWS]
    if missing := [str(run.path) for run in runs if not run.finished]:
        parser.error(f"not finished: {', '.join(missing)}; run benchmarks/augkd/policies.py first")
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda run: measured(run, "kdrl-evaluate", MEASURES), runs))
    report(runs, "coinrun")


if __name__ == "__main__":
    main()
