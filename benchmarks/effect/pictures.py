"""What the grids found, as pictures: ``python benchmarks/effect/pictures.py`` writes them into ``docs/figures``.

``effect.svg`` has every method's difference to plain training, a panel a grid, from the committed comparisons.
``unseen.png`` has an image of a stain that training has not seen, as the networks of a folder of runs see it
(``--runs DIR``, of ``grid.py one_labelled``): pictures are not committed with the runs.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

import matplotlib
from matplotlib import pyplot

from benchmarks.effect import comparison, strong
from benchmarks.effect.committed import RESULTS, rows_of
from benchmarks.effect.grids import GRIDS
from common.runs.disk import write_atomically
from common.runs.folder import Run
from common.runs.items import item_key

FIGURES = Path(__file__).parents[2] / "docs" / "figures"
SURE, UNSURE = "#0072b2", "#8b949e"
# Grid → heading of its panel.
PANELS = {
    "nuclei_invert": "nuclei, all masks",
    "one_labelled": "nuclei, masks of one domain",
    "colonies_one_labelled": "bacteria, masks of one domain",
    "microcolonies": "bacteria, all masks",
    "looks": "game frames, unseen look",
}
SHOWN = ("erm", "kd", "kddg_sdd")
TARGET = "purple_on_purple"


def _whole(name: str) -> dict[str, dict[str, str]]:
    """Method → its row over all targets, of those that have as many seeds as plain training."""
    judged = comparison.judged(name, strong.headline(rows_of(name)))
    rows = {method: own["*"] for method, own in judged.items() if method in GRIDS[name].methods and "*" in own}
    return {method: row for method, row in rows.items() if row["whole"]}


def differences() -> Any:
    """Points over plain training on unseen targets, with 95 % intervals; blue where the corrected p is at most 0.05."""
    grids = [name for name in PANELS if (RESULTS / f"{name}.csv").exists() and strong.on_all_targets(name)]
    compared = {name: _whole(name) for name in grids}
    methods = list(dict.fromkeys(method for own in compared.values() for method in own if method != "erm"))[::-1]
    figure, axes = pyplot.subplots(
        1,
        len(grids),
        figsize=(2.2 + 2.2 * len(grids), 1 + 0.28 * len(methods)),
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    for axis, name in zip(axes[0], grids, strict=True):
        axis.axvline(0, color="black", linewidth=0.8)
        for place, method in enumerate(methods):
            if row := compared[name].get(method):
                middle, low, high = (100 * float(row[f"difference{end}"]) for end in ("", "_low", "_high"))
                colour = SURE if row["sure"] else UNSURE
                axis.plot([low, high], [place, place], color=colour, linewidth=2)
                axis.plot(middle, place, "o", color=colour, markersize=5)
        axis.set_title(PANELS[name], fontsize=9, loc="left")
        axis.set_xlabel("mIoU, points over plain training", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right", "left"]].set_visible(False)
        axis.grid(axis="x", linewidth=0.4)
    axes[0][0].set_yticks(range(len(methods)), methods)
    return figure


def unseen(runs: Path, seed: int = 0) -> Any:
    """An image of the held-out stain, its truth, and what networks with masks of one domain make of it."""
    room = runs / "one_labelled" / TARGET
    items = {method: Run(room / f"{method}-{seed}").items() for method in SHOWN}
    image, mask, prediction = (item_key(name, TARGET, seen=False) for name in ("image", "mask", "prediction"))
    rows = range(min(3, len(items["erm"][image])))
    heads = ("unseen stain", "truth", *SHOWN)
    figure, axes = pyplot.subplots(len(rows), len(heads), figsize=(1.7 * len(heads), 1.8 * len(rows)), squeeze=False)
    for number in rows:
        shown = [items["erm"][image][number], items["erm"][mask][number]]
        shown += [items[method][prediction][number] for method in SHOWN]
        for axis, head, picture in zip(axes[number], heads, shown, strict=True):
            axis.imshow(picture, cmap="gray", interpolation="nearest")
            axis.axis("off")
            if number == 0:
                axis.set_title(head, fontsize=9)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, help="folder of runs that unseen.png is drawn from (default: leave it)")
    options = parser.parse_args()
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.hashsalt": "kdshift", "figure.constrained_layout.use": True}
    figure = differences()
    write_atomically(FIGURES / "effect.svg", lambda path: figure.savefig(path, metadata={"Date": None}))
    if options.runs is not None:
        picture = unseen(options.runs)
        write_atomically(FIGURES / "unseen.png", lambda path: picture.savefig(path, dpi=110))


if __name__ == "__main__":
    main()
