"""Which method helps on unseen domains, at the same number of steps for all: grids of cells, resumed cell by cell.

What they are made of stands in ``grids.py``. A finished cell is never run again: stop and start as you like.

    python benchmarks/effect/grid.py core --data DIR       # what is missing, two processes of one thread, then results
    python benchmarks/effect/grid.py core --collect        # results of the finished cells only
    python benchmarks/effect/grid.py nuclei_mild --data DIR --runs DIR --targets fluorescence

Results go to ``results``: the cells' scores, their comparison, the conditions, and, a file a target, the finished runs
as far as a comparison reads them. A grid goes on from these where the folder of runs is gone; teachers are then trained
again for targets of which cells are missing.
"""

import argparse
import functools
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks.effect import keeping, measured
from benchmarks.effect.cells import AVERAGING, Cell, Grid
from benchmarks.effect.committed import RESULTS
from benchmarks.effect.grids import GRIDS
from benchmarks.effect.images import STAINS, make, placed
from benchmarks.effect.students import on_all_unseen
from benchmarks.lines import read
from benchmarks.programs import call, configured
from benchmarks.speed import machine
from common.runs.folder import Run
from common.runs.items import split_key
from common.runs.records import fraction_filtered

METRICS = {"kdseg": "miou", "kdrl": "normalized_return"}


def folder(runs: Path, grid: Grid, cell: Cell) -> Path:
    """Where a cell's run lies."""
    if cell.method in grid.teachers:
        return runs / "teachers" / (cell.target if cell.method == "teacher" else f"{cell.target}-{cell.method}")
    return runs / grid.room / cell.target / f"{cell.method}-{cell.seed}"


def overrides(grid: Grid, cell: Cell, runs: Path, data: Path | None) -> list[str]:
    """A cell on the command line."""
    given = placed(grid.given(cell.target), cell.target, data, runs)
    given += [f"seed={cell.seed}", f"run_dir={folder(runs, grid, cell)}"]
    if cell.method in grid.teachers:
        sources = [stain for stain in STAINS if stain != cell.target]
        others = [f"[{','.join(one for one in sources if one != left_out)}]" for left_out in sources]
        return [*given, "method=erm", *(one.format(others=others) for one in grid.teachers[cell.method].overrides)]
    names = grid.teachers_of(cell.method)
    asked = [str(folder(runs, grid, Cell(cell.target, name, grid.teachers[name].seed))) for name in names]
    teacher = [f"teacher={asked[0] if len(asked) == 1 else '[' + ','.join(asked) + ']'}"] if asked else []
    own = placed(grid.methods[cell.method], cell.target, data, runs)
    return [*given, *AVERAGING, *own, f"method.name={cell.method}", *teacher]


def run_cell(name: str, cell: Cell, runs: Path, data: Path | None) -> None:
    """Train and test one cell in this process."""
    from omegaconf import OmegaConf

    from common.configuration import check_settings

    grid = GRIDS[name]
    values = OmegaConf.to_container(configured(grid.program, *overrides(grid, cell, runs, data)), resolve=True)
    with Path(os.devnull).open("w") as nowhere:
        sys.stdout = nowhere  # the tables of a hundred runs
        try:
            if grid.program == "kdseg":
                from kdseg import settings as segmentation
                from kdseg.train import train as train_network

                train_network(check_settings(values, segmentation.TrainSettings))
            else:
                from kdrl import settings as policies
                from kdrl.train import train as train_policy

                train_policy(check_settings(values, policies.TrainSettings))
        finally:
            sys.stdout = sys.__stdout__


def archive(name: str, target: str) -> Path:
    """Where the finished runs of a target are kept."""
    return RESULTS / name / f"{target}.tar.xz"


def missing(grid: Grid, runs: Path, wanted: Sequence[Cell]) -> tuple[list[Cell], list[Cell]]:
    """Cells that are not finished: teachers that students of the second list ask, and these."""

    def unfinished(cells: Sequence[Cell]) -> list[Cell]:
        return [cell for cell in cells if not Run(folder(runs, grid, cell)).finished]

    students = unfinished(wanted)
    asked = {(cell.target, name) for cell in students for name in grid.teachers_of(cell.method)}
    return unfinished([cell for cell in grid.teacher_cells() if (cell.target, cell.method) in asked]), students


def run_missing(
    console: Console, name: str, runs: Path, data: Path | None, processes: int, both: tuple[list[Cell], list[Cell]]
) -> None:
    """Run cells, teachers first, side by side on one thread each."""
    os.environ["OMP_NUM_THREADS"] = "1"
    grid = GRIDS[name]
    for cell in both[1] if data is not None else ():
        make(grid.given(cell.target, cell.method), cell.target, data, runs)
    for cells in both:
        with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
            jobs = (functools.partial(run_cell, name, cell, runs, data) for cell in cells)
            for _ in track(in_turn(pool, processes, jobs), "cells", total=len(cells), console=console):
                pass


def in_turn(pool: Executor, processes: int, jobs: Iterator[Callable[[], None]]) -> Iterator[None]:
    """Jobs as they end, never more handed to the pool than run: after an error or Ctrl-C it begins no other."""
    running: set[Future[None]] = set()
    while running := running | {pool.submit(job) for job in itertools.islice(jobs, processes - len(running))}:
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        for one in ended:
            yield one.result()


def measure_missing(console: Console, grid: Grid, runs: Path, processes: int, cells: Sequence[Cell]) -> None:
    """Have the program of a grid measure finished cells that have their weights, as far as it is not done."""
    finished = [run for cell in cells if (run := Run(folder(runs, grid, cell))).finished]
    waiting = [run.path for run in finished if run.checkpoints.exists() and not measured.numbers(run)]
    with ThreadPoolExecutor(processes) as pool:
        given = ("weights=last", *measured.MEASURES)
        jobs = (functools.partial(call, f"{grid.program}-evaluate", f"run={path}", *given) for path in waiting)
        for _ in track(in_turn(pool, processes, jobs), "measured", total=len(waiting), console=console):
            pass


def row(grid: Grid, cell: Cell, runs: Path) -> dict[str, Any]:
    """What a finished cell scored: ``scores[weights][validation | seen | unseen][domain]``, and the share filtered."""
    run = Run(folder(runs, grid, cell))
    records = run.records()
    filtered = fraction_filtered(records)
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for record in records:
        if record.split == "progress" or record.metric != METRICS[grid.program]:
            continue
        part = "validation" if record.split == "validation" else "seen" if record.seen else "unseen"
        scores.setdefault(record.selection, {}).setdefault(part, {})[record.domain] = round(record.value, 6)
    last = records[-1]
    found = {**cell._asdict(), "steps": last.steps, "seconds": round(last.seconds, 1), "scores": scores}
    found |= {} if filtered is None else {"filtered": round(filtered, 4)}
    beside = measured.numbers(run)
    return found | ({"measured": beside} if beside else {})


def nothing_found(run: Run) -> float:
    """Mean IoU of calling every pixel of the unseen domain by its most frequent class."""
    for text, confusion in run.items().items():
        key = split_key(text)
        if key is not None and key.name == "confusion" and not key.seen:
            shares = confusion.sum(axis=(0, 2)) / confusion.sum()
            return float(shares.max() / np.count_nonzero(shares))
    raise ValueError(f"{run.path} has no unseen domain")


def collect(name: str, runs: Path) -> None:
    """The finished cells as data: scores, differences to plain training with either weights, and the conditions."""
    from common.report.analysis import analyse
    from common.report.table import to_csv

    grid = GRIDS[name]
    path = RESULTS / f"{name}.jsonl"
    known = {Cell(*(one[field] for field in Cell._fields)): one for one in read(path)}
    cells = [*grid.teacher_cells(), *grid.cells()]
    finished = [cell for cell in cells if Run(folder(runs, grid, cell)).finished]
    rows = known | {cell: row(grid, cell, runs) for cell in finished}  # teachers may have been trained elsewhere
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(rows[cell]) + "\n" for cell in cells if cell in rows))
    trivial: dict[str, float] = {}
    for target in grid.targets:
        if students := [cell for cell in finished if cell.target == target and cell.method in grid.methods]:
            keeping.keep([Run(folder(runs, grid, cell)) for cell in students], runs, archive(name, target))
            if grid.program == "kdseg":
                trivial[target] = round(nothing_found(Run(folder(runs, grid, students[0]))), 4)
    if "erm" in grid.methods:
        folders = [folder(runs, grid, cell) for cell in finished if cell.method in grid.methods]
        for suffix, reference in (("", "erm"), ("_averaged", "erm (averaged)")):
            analysis = analyse(folders, reference=reference)
            if grid.program == "kdrl":
                analysis = on_all_unseen(analysis)
            (RESULTS / f"{name}{suffix}.csv").write_text(to_csv(analysis))
    description = machine.describe("cpu") | {
        "cells": sum(cell.method in grid.methods for cell in finished),
        "of": len(grid.cells()),
        "settings": [*grid.settings, *AVERAGING],
        "nothing found": trivial,
        "teachers": {name: list(one.overrides) for name, one in grid.teachers.items()},
        "methods": {method: list(given) for method, given in grid.methods.items()},
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(description, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("grid", choices=GRIDS)
    parser.add_argument(
        "--data", type=Path, help="folder of domains: the whole nuclei set, or what microcolonies.py made"
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/effect"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--targets", nargs="+", help="train for these only (default: all)")
    parser.add_argument("--methods", nargs="+", help="train these only (default: all)")
    parser.add_argument("--seeds", type=int, help="train so many only (default: all)")
    parser.add_argument("--collect", action="store_true", help="train nothing")
    parser.add_argument("--measure", action="store_true", help="train nothing; measure what is finished, last weights")
    options = parser.parse_args()
    runs, grid = options.runs.resolve(), GRIDS[options.grid]
    for given, known, what in ((options.targets, grid.targets, "targets"), (options.methods, grid.methods, "methods")):
        if unknown := set(given or ()) - set(known):
            parser.error(f"--{what}: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    for target in grid.targets:
        keeping.unpack(archive(options.grid, target), runs)
    targets, methods = options.targets or list(grid.targets), options.methods or list(grid.methods)
    before = grid.first_seed + (options.seeds or grid.seeds)
    asked = [cell for cell in grid.cells() if cell.target in targets and cell.method in methods and cell.seed < before]
    if options.measure and grid.program != "kdseg":
        parser.error(f"--measure: the numbers beside a score are those of images; {options.grid} is of policies")
    if options.measure:
        measure_missing(Console(), grid, runs, options.processes, asked)
    elif not options.collect:
        if options.data is None and any("data.root=" in one for target in targets for one in grid.given(target)):
            parser.error("--data is missing: the folder of images")
        data = None if options.data is None else options.data.resolve()
        started = time.perf_counter()
        run_missing(Console(), options.grid, runs, data, options.processes, missing(grid, runs, asked))
        print(f"{time.perf_counter() - started:.0f} s")
    collect(options.grid, runs)


if __name__ == "__main__":
    main()
