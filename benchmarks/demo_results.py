"""What a finished ``make demo`` leaves for the README: its table, what trivial answers score, and a picture."""

import json
import shutil
from pathlib import Path
from typing import Any

from benchmarks.effect.committed import chance
from benchmarks.effect.grid import nothing_found
from benchmarks.speed import machine
from common.runs.disk import write_atomically
from common.runs.folder import Run
from common.runs.items import item_key

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
METHODS = ("erm", "kddg_sdd")


def take_demo(folder: Path) -> None:
    """Copy the table of a finished demo, note the machine and the budget, and draw the picture."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(folder / "report" / "report.csv", RESULTS / "demo.csv")
    budgets = {}
    for task in sorted((folder / "runs").iterdir()):
        runs = [Run(path) for path in sorted(task.iterdir())]
        tested = [record for run in runs for record in run.records() if record.split == "test"]
        teacher = [record for record in Run(folder / "teachers" / task.name).records() if record.split == "test"]
        budgets[tested[0].target] = {
            "steps": tested[0].steps,
            "teacher_steps": teacher[0].steps,
            "test_items": next(record.n for record in tested if not record.seen),
            "trivial": _trivial(task.name, runs[0]),
        }
    description = machine.describe("cpu") | {"budgets": budgets}
    (RESULTS / "demo.json").write_text(json.dumps(description, indent=2) + "\n")
    draw(folder / "runs", ROOT / "docs" / "figures" / "demo.png")


def _trivial(game: str, run: Run) -> dict[str, Any]:
    """What a target scores without any training: everything is background, or every action as likely."""
    if any(key.startswith("confusion") for key in run.items()):
        return {"by": "all background", "score": nothing_found(run)}
    (score,) = [one for domain, one in chance()["games"][game]["unseen"].items() if domain.endswith("/themed")]
    return {"by": "random actions", "score": score["normalized_return"]}


def draw(runs: Path, path: Path) -> None:
    """An unseen stain as the networks see it, over a policy on unseen levels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    items = {method: Run(runs / "nuclei" / f"{method}-0").items() for method in METHODS}
    frames = Run(runs / "coinrun" / "kddg_sdd-0").items()[item_key("image", "coinrun/themed", seen=False)]
    key = item_key("image", "purple_on_white", seen=False)
    mask, prediction = (item_key(name, "purple_on_white", seen=False) for name in ("mask", "prediction"))
    shown = 0
    columns = {"unseen stain": None, "truth": items["erm"][mask][shown]}
    columns |= {method: items[method][prediction][shown] for method in METHODS}
    figure, axes = pyplot.subplots(2, 4, figsize=(9, 4.7), layout="constrained")
    for axis, (title, outline) in zip(axes[0], columns.items(), strict=True):
        axis.imshow(items["erm"][key][shown])
        if outline is not None:
            # Filled, or what is inverted looks right.
            axis.contourf(outline == 1, levels=[0.5, 1.5], colors="#ffd400", alpha=0.45)
            axis.contour(outline == 1, levels=[0.5], colors="#ffd400", linewidths=1.2)
        axis.set_title(title, fontsize=10)
    for axis, frame in zip(axes[1], frames[1::2], strict=False):
        axis.imshow(frame)
    axes[1][0].set_title("kddg_sdd on unseen CoinRun levels", fontsize=10, loc="left")
    for axis in axes.flat:
        axis.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))
