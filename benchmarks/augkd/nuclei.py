"""AuG-KD on nuclei: a teacher of one stain whose images are gone, a student of another with few masks.

Run: ``python benchmarks/augkd/nuclei.py --nuclei DIR`` (a folder of domains; see ``configs/data/nuclei.yaml``). Every
cell is a run of ``kdseg-train`` in ``runs/augkd-nuclei``; a finished one is never run again, and a line of
``results/nuclei.jsonl``. Three tenths of each stain's fields are held out, the same for all, and are the target; the
labelled part of the rest is drawn by the seed. Teacher and student have the same network.
"""

import argparse
import csv
import json
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.augkd.digits import CONSTANT
from benchmarks.lines import append, read
from benchmarks.programs import call
from common.augkd.folder import ArtefactFolder
from common.evaluation.segmentation import mean_iou
from common.runs.folder import Run

RESULTS = Path(__file__).parent / "results" / "nuclei.jsonl"
RUNS = Path("runs/augkd-nuclei")
PAIRS = (("fluorescence", "purple_on_white"), ("purple_on_white", "fluorescence"))
"""The teacher's stain and the student's."""
PARTS = (0.1, 1.0)
MOST = 100  # images of a stain that are trained on: there are 39 of one and 541 of another
HELD_OUT, MOST_HELD_OUT = 0.3, 30
SHARED = (
    *("data=folder", "data.target=held_out", "data.class_names=[background,nucleus]", "data.validation_fraction=0"),
    *("data.batch_size=8", "data.crop_size=64", "evaluation.every=0", "trainer.accelerator=cpu"),
    *("strength.kd=0.5", "strength.temperature=2.0", "+trainer.enable_progress_bar=false"),
)
TEACHER, STUDENT = "trainer.max_steps=1000", "trainer.max_steps=300"
ROWS: dict[str, tuple[str, ...]] = {
    "labels": ("method=erm",),
    "kd": ("method=kd",),
    "augkd": ("method=augkd",),
    # Only the first weights are AuG-KD's.
    "data_free": ("method=augkd", "method.terms.augkd.weight=0", "method.terms.augkd.real=1.0"),
    "augkd_everywhere": ("method=augkd", "method.terms.augkd.agreeing=false"),
    "augkd_no_anchor": ("method=augkd", "method.terms.augkd.anchored=false"),
    "augkd_no_curriculum": ("method=augkd", f"method.terms.augkd.real={CONSTANT}"),
}


def split(nuclei: Path, stain: str) -> tuple[list[str], list[str]]:
    """Names of a stain's images to train on and of those held out; images of one field stay together."""
    with (nuclei / "metadata.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["domain"] == stain]
    fields = sorted({line["mosaic_idx"] for line in lines})
    np.random.default_rng(0).shuffle(fields)
    held = set(fields[: max(1, round(HELD_OUT * len(fields)))])
    names: tuple[list[str], list[str]] = ([], [])
    for line in lines:
        names[line["mosaic_idx"] in held].append(line["img_id"])
    return sorted(names[0])[:MOST], sorted(names[1])[:MOST_HELD_OUT]


def folder_of(nuclei: Path, stain: str, part: float, seed: int) -> Path:
    """A folder of domains: the labelled part, named as the stain, and what is held out."""
    root = RUNS / "data" / f"{stain}-{part}-{seed}"
    if root.exists():
        return root
    temporary = root.with_name(f".{root.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    train, held_out = split(nuclei, stain)
    drawn = np.random.default_rng(seed).permutation(len(train))[: max(2, round(part * len(train)))]
    for domain, names in ((stain, [train[number] for number in drawn]), ("held_out", held_out)):
        for kind in ("images", "masks"):
            (temporary / domain / kind).mkdir(parents=True)
            for name in names:
                shutil.copy(nuclei / stain / kind / f"{name}.png", temporary / domain / kind)
    temporary.rename(root)
    return root


def confusion(run: Run) -> NDArray[np.int64]:
    """The pooled confusion matrix of the held-out images."""
    matrix: NDArray[np.int64] = run.items()["confusion|held_out|unseen"].sum(axis=0)
    return matrix


def teacher(nuclei: Path, stain: str, seed: int) -> Path:
    """A teacher of all images of a stain."""
    path = RUNS / "teachers" / f"{stain}-{seed}"
    if not Run(path).finished:
        root = folder_of(nuclei, stain, 1.0, seed)
        call("kdseg-train", *SHARED, TEACHER, f"data.root={root}", f"data.sources=[{stain}]", f"run_dir={path}")
    return path


def cells(nuclei: Path, theirs: str, own: str, part: float, seed: int) -> None:
    """Every row of a pair of stains, a labelled part and a seed that is not done yet."""
    key = {"teacher": theirs, "student": own, "part": part, "seed": seed}
    done = {line["row"] for line in read(RESULTS) if all(line[name] == value for name, value in key.items())}
    root, taught = folder_of(nuclei, own, part, seed), teacher(nuclei, theirs, seed)
    base = RUNS / f"{theirs}-{own}-{part}-{seed}"
    if "teacher" not in done:
        out = base / "teacher"
        if not Run(out).finished:
            call("kdseg-evaluate", f"run={taught}", f"root={root}", "target=held_out", f"out={out}")
        matrix = confusion(Run(out))
        background = np.zeros_like(matrix)
        background[:, 0] = matrix.sum(axis=1)
        for row, one in (("teacher", matrix), ("background", background)):
            append(RESULTS, {**key, "row": row, "miou": round(float(mean_iou(one)), 6), "seconds": 0.0})
    for row, arguments in ROWS.items():
        if row in done:
            continue
        path = base / row
        given = (*SHARED, STUDENT, f"data.root={root}", f"data.sources=[{own}]", f"seed={seed}", f"run_dir={path}")
        taken = (f"anchor={base / 'augkd'}",) if "method=augkd" in arguments and row != "augkd" else ()
        asked = () if row == "labels" else (f"teacher={taught}",)
        if not Run(path).finished:
            call("kdseg-train", *given, *arguments, *taken, *asked)
        status = Run(path).status()
        assert status is not None
        line: dict[str, Any] = {**key, "row": row, "miou": round(float(mean_iou(confusion(Run(path)))), 6)}
        line["seconds"] = round(status.seconds, 1)
        if row == "augkd":
            artefact = ArtefactFolder(Run(path).anchor)
            line["costs"] = {name: round(facts.seconds, 1) for name, facts in artefact.stages.items()}
            line["peak_mebibytes"] = round(max(facts.peak_mebibytes for facts in artefact.stages.values()))
            line["measured"] = {name: round(value, 4) for name, value in artefact.measured.items()}
        append(RESULTS, line)
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    # Seeds outermost: cut short, every row is there at fewer seeds. Teachers are made before they are asked.
    for seed in range(options.seeds):
        with ThreadPoolExecutor(options.processes) as pool:
            list(pool.map(lambda pair, seed=seed: teacher(options.nuclei, pair[0], seed), PAIRS))
            work = [(theirs, own, part) for part in PARTS for theirs, own in PAIRS]
            list(pool.map(lambda one, seed=seed: cells(options.nuclei, *one, seed), work))


if __name__ == "__main__":
    main()
