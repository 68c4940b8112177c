"""Folders of domains that the grids make of the nuclei: fewer images, or masks for one domain alone."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

STAINS = ("fluorescence", "grey_brightfield", "purple_on_purple", "purple_on_white")
LABELLED = ("fluorescence", "purple_on_purple")
"""The domains with most images: the first that is not held out keeps its masks where one does alone."""


def _thinned(nuclei: Path, building: Path, target: str) -> None:
    """Every third image of fluorescence: 541 images would cost two thirds of a grid's time."""
    kept = {path.stem for path in sorted((nuclei / "fluorescence" / "images").iterdir())[::3]}
    for kind in ("images", "masks"):
        (building / "fluorescence" / kind).mkdir(parents=True)
        for path in (nuclei / "fluorescence" / kind).iterdir():
            if path.stem in kept:
                (building / "fluorescence" / kind / path.name).symlink_to(path)
    for path in nuclei.iterdir():
        if path.name != "fluorescence":
            (building / path.name).symlink_to(path)


def _one_labelled(nuclei: Path, building: Path, target: str) -> None:
    """The same, thinned, where one source domain has masks and the others have images alone."""
    _thinned(nuclei, building, target)
    labelled = next(name for name in LABELLED if name != target)
    for name in STAINS:
        if name not in (target, labelled):
            images = (building / name / "images").resolve()
            (building / name).unlink()
            (building / name).mkdir()
            (building / name / "unlabelled").symlink_to(images)


MADE: dict[str, Callable[[Path, Path, str], None]] = {"thinned": _thinned, "one_labelled": _one_labelled}


def place(name: str, target: str, data: Path | None, runs: Path) -> str:
    """Where the folder of a name lies, made or not: ``data`` is the one that was given."""
    return str(data if name == "data" else runs / "data" / (name if name == "thinned" else f"{name}-{target}"))


def placed(overrides: Sequence[str], target: str, data: Path | None, runs: Path) -> list[str]:
    """Overrides with the folders for ``{data}``, ``{thinned}`` and ``{one_labelled}``."""
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
