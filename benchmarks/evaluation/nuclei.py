"""Do methods improve calibration, robustness and detection? Nuclei, one stain never seen, five seeds.

Run: ``python benchmarks/evaluation/nuclei.py --nuclei DIR``. Every run is one of ``kdseg-train`` in
``runs/evaluation-nuclei``, measured by ``kdseg-evaluate``; what is finished is not done again. The tables are
``results/nuclei.md`` and every number ``results/nuclei.csv``, both as ``kd-report`` writes them.
"""

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.evaluation.evidence import measured, report
from benchmarks.programs import call
from common.runs.folder import Run

RUNS = Path("runs/evaluation-nuclei")
TARGET = "purple_on_white"
SHARED = (
    *("data=nuclei", f"data.target={TARGET}", "data.batch_size=8", "data.crop_size=96", "trainer.max_steps=400"),
    *("evaluation.every=0", "trainer.accelerator=cpu", "+trainer.enable_progress_bar=false"),
)
MEASURES = (
    *("measures=[corruptions,attacks,unknown,analysis]", "corruptions.names=benchmark", "corruptions.severities=[3]"),
    *("attacks.names=[segpgd]", "attacks.radii=[1,4]", "attacks.steps=5", "most=8", "device=cpu"),
)
ROWS = ("erm", "label_smoothing", "sd_dropout", "kd", "kddg_sdd")
ASK_A_TEACHER = ("kd", "kddg_sdd")


def cell(nuclei: Path, row: str, seed: int) -> None:
    """Train and measure one run, as far as it is not done."""
    run, more = Run(RUNS / f"{row}-{seed}"), (f"data.root={nuclei}", f"method={row}", f"seed={seed}")
    if row in ASK_A_TEACHER:
        more += (f"teacher={RUNS / 'teacher'}",)
    if not run.finished:
        call("kdseg-train", *SHARED, *more, f"run_dir={run.path}")
    measured(run, "kdseg-evaluate", MEASURES)
    print(f"{row}, seed {seed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    if not Run(RUNS / "teacher").finished:
        call("kdseg-train", *SHARED, f"data.root={options.nuclei}", "seed=100", f"run_dir={RUNS / 'teacher'}")
    cells = [(row, seed) for seed in range(options.seeds) for row in ROWS]
    with ThreadPoolExecutor(options.processes) as pool:
        list(pool.map(lambda one: cell(options.nuclei, *one), cells))
    report([Run(RUNS / f"{row}-{seed}") for row, seed in cells], "nuclei")


if __name__ == "__main__":
    main()
