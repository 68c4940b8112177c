"""The core grid: which method helps on unseen domains, at the same number of steps for all.

Segmentation of nuclei (held-out stain) and of CoinRun frames (held-out look); seven methods, five seeds, small
networks, 96x96 crops. Every run is scored live and WAKD-averaged, so averaging costs no second run. A cell that is
finished is never run again: stop and start as you like.

    python benchmarks/effect/core_grid.py --nuclei DIR        # all that is missing, two processes of one thread
    python benchmarks/effect/core_grid.py --collect           # tables of the finished cells, into results/
"""

import argparse
import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from rich.console import Console
from rich.progress import track

from benchmarks.speed import machine
from common.records import Run

HERE = Path(__file__).parent
METHODS = ("erm", "label_smoothing", "kd", "kddg", "kddg_teacher", "sd_dropout", "kddg_sdd")
SEEDS = range(5)
TEACHER_SEED = 100
NUCLEI_TARGETS = ("purple_on_white", "fluorescence")
SETTINGS = ("trainer.max_steps=500", "evaluation.every=0", "+trainer.enable_progress_bar=false", "averaging=wakd")

Cell = tuple[str, str, int]  # target, method, seed


def data_overrides(target: str, nuclei: Path) -> list[str]:
    """What a target's data is on the command line."""
    if target in NUCLEI_TARGETS:
        return ["data=nuclei", f"data.root={nuclei}", f"data.target={target}", "data.batch_size=8"]
    return ["data=procgen", f"data.target={target}", "data.batch_size=16"]


def cells() -> list[Cell]:
    """Seeds outermost, so that a grid that is cut short has every method at fewer seeds."""
    targets = (*NUCLEI_TARGETS, "generated")
    return [(target, method, seed) for seed in SEEDS for target in targets for method in METHODS]


def folder(runs: Path, cell: Cell) -> Path:
    """Where a cell's run lies."""
    target, method, seed = cell
    return runs / target / f"{method}-{seed}"


def run_cell(cell: Cell, runs: Path, nuclei: Path) -> float:
    """Train and test one cell in this process; seconds it took."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from common.configuration import check_settings, config_directory
    from kdseg.settings import TrainSettings
    from kdseg.train import train

    started = time.perf_counter()
    target, method, seed = cell
    teacher = runs / "teachers" / target
    place = teacher if method == "teacher" else folder(runs, cell)
    overrides = [*data_overrides(target, nuclei), *SETTINGS, f"seed={seed}", f"run_dir={place}"]
    overrides += ["method=erm"] if method == "teacher" else [f"method={method}", f"teacher={teacher}"]
    if method == "teacher":
        overrides += ["averaging=none"]
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = compose("kdseg/train", overrides)
    values = OmegaConf.to_container(config, resolve=True)
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = nowhere  # the tables of a hundred runs
        try:
            train(check_settings(values, TrainSettings))
        finally:
            sys.stdout = sys.__stdout__
    return time.perf_counter() - started


def run_all(console: Console, todo: list[Cell], runs: Path, nuclei: Path, processes: int) -> None:
    """Run cells side by side, one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(run_cell, cell, runs, nuclei) for cell in todo]
        for job in track(as_completed(jobs), "cells", total=len(jobs), console=console):
            job.result()


def collect(runs: Path) -> None:
    """Table and conditions of the finished cells, as data."""
    from common.report.analysis import analyse
    from common.report.table import to_csv

    finished = [folder(runs, cell) for cell in cells() if Run(folder(runs, cell)).finished]
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "core_grid.csv").write_text(to_csv(analyse(finished)))
    rows = [
        json.dumps(vars(record)) for path in finished for record in Run(path).records() if record.split != "progress"
    ]
    kept = [row for row in rows if '"miou"' in row]
    (results / "core_grid.jsonl").write_text("\n".join(kept) + "\n")
    description = machine.describe("cpu") | {"cells": len(finished), "of": len(cells()), "settings": list(SETTINGS)}
    (results / "core_grid.json").write_text(json.dumps(description, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=Path, help="the whole nuclei set as a folder of domains")
    parser.add_argument("--runs", type=Path, default=Path("runs/core_grid"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--collect", action="store_true", help="train nothing")
    options = parser.parse_args()
    console = Console()
    if not options.collect:
        if options.nuclei is None:
            parser.error("--nuclei is missing: the folder of the whole nuclei set")
        nuclei, runs = options.nuclei.resolve(), options.runs.resolve()
        targets = (*NUCLEI_TARGETS, "generated")
        teachers = [(target, "teacher", TEACHER_SEED) for target in targets]
        missing = [cell for cell in teachers if not Run(runs / "teachers" / cell[0]).finished]
        run_all(console, missing, runs, nuclei, options.processes)
        run_all(
            console, [cell for cell in cells() if not Run(folder(runs, cell)).finished], runs, nuclei, options.processes
        )
    collect(options.runs)


if __name__ == "__main__":
    main()
