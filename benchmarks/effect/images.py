"""Folders of domains that the grids make of a data set: fewer images, or masks for one domain alone."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

STAINS = ("fluorescence", "grey_brightfield", "purple_on_purple", "purple_on_white")
LABELLED = ("fluorescence", "purple_on_purple")
"""The domains with most images: the first that is not held out keeps its masks where one does alone."""
LABELLED_COLONIES = ("fluorescence", "phase_contrast")
"""The same of the bacteria, whose domains have equally many: fluorescence as of the nuclei."""


SIDE = 512
"""Of the middle of grey_brightfield's images, which have four times as many pixels."""


def _every(count: int, nuclei: Path, building: Path) -> None:
    """The domains as they are, but of fluorescence every so-manieth image: 541 would take most of a grid's time."""
    kept = {path.stem for path in sorted((nuclei / "fluorescence" / "images").iterdir())[::count]}
    for kind in ("images", "masks"):
        (building / "fluorescence" / kind).mkdir(parents=True)
        for path in (nuclei / "fluorescence" / kind).iterdir():
            if path.stem in kept:
                (building / "fluorescence" / kind / path.name).symlink_to(path)
    for path in nuclei.iterdir():
        if path.name != "fluorescence":
            (building / path.name).symlink_to(path)


def _thinned(nuclei: Path, building: Path, target: str) -> None:
    """Every third image of fluorescence."""
    _every(3, nuclei, building)


def _small(nuclei: Path, building: Path, target: str) -> None:
    """Every ninth image of fluorescence, and the middles of grey_brightfield's images."""
    _every(9, nuclei, building)
    (building / "grey_brightfield").unlink()
    for kind in ("images", "masks"):
        (building / "grey_brightfield" / kind).mkdir(parents=True)
        for path in (nuclei / "grey_brightfield" / kind).iterdir():
            with Image.open(path) as whole:
                left, top = ((side - SIDE) // 2 for side in whole.size)
                middle = whole.crop((left, top, left + SIDE, top + SIDE))
                middle.save(building / "grey_brightfield" / kind / path.name)


def hide_masks(building: Path, names: Sequence[str]) -> None:
    """Leave images alone of these domains."""
    for name in names:
        hidden = building / f".{name}"  # is no domain
        (building / name).rename(hidden)
        (building / name).mkdir()
        (building / name / "unlabelled").symlink_to(Path("..") / hidden.name / "images")


def _one_labelled(nuclei: Path, building: Path, target: str) -> None:
    """The same where one source domain has masks and the others have images alone."""
    _small(nuclei, building, target)
    _label_one(building, target, LABELLED)


def _colonies_one_labelled(colonies: Path, building: Path, target: str) -> None:
    """The bacteria where one source domain has masks and the others have images alone."""
    building.mkdir(parents=True)
    for path in colonies.iterdir():
        (building / path.name).symlink_to(path)
    _label_one(building, target, LABELLED_COLONIES)


def _label_one(building: Path, target: str, first: Sequence[str]) -> None:
    """Leave masks to the held-out domain and to the first of these that is another."""
    labelled = next(name for name in first if name != target)
    domains = [path.parent.name for path in building.glob("*/images")]
    hide_masks(building, [name for name in domains if name not in (target, labelled)])


MADE: dict[str, Callable[[Path, Path, str], None]] = {
    "thinned": _thinned,
    "small": _small,
    "one_labelled": _one_labelled,
    "colonies_one_labelled": _colonies_one_labelled,
}
ONE_EACH = ("one_labelled", "colonies_one_labelled")
"""Made for each target anew."""


def place(name: str, target: str, data: Path | None, runs: Path) -> str:
    """Where the folder of a name lies, made or not: ``data`` is the one that was given."""
    return str(data if name == "data" else runs / "data" / (f"{name}-{target}" if name in ONE_EACH else name))


def placed(overrides: Sequence[str], target: str, data: Path | None, runs: Path) -> list[str]:
    """Overrides with the folders for ``{data}`` and what is made of it, such as ``{small}``."""
    found = list(overrides)
    for name in ("data", *MADE):
        found = [one.replace(f"{{{name}}}", place(name, target, data, runs)) for one in found]
    return found


def make(overrides: Sequence[str], target: str, data: Path, runs: Path) -> None:
    """Make the folders that overrides name, as far as they are not there."""
    for name, build in MADE.items():
        root = Path(place(name, target, data, runs))
        if any(f"{{{name}}}" in one for one in overrides) and not root.exists():
            building = root.with_name(f"{root.name}.{os.getpid()}")
            build(data, building, target)
            building.rename(root)
