"""How the devkit of PASCAL VOC lays images out: names of its folders, and its lists."""

from pathlib import Path

from common.errors import InputError

IMAGES, MASKS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"


def parts(folder: Path) -> dict[str, str] | None:
    """Name → ``train`` or ``validation``, as the lists of a domain's folder say, if both are there.

    Raises:
        InputError: a name is in both.
    """
    lists = {"train": folder / LISTS / "train.txt", "validation": folder / LISTS / "val.txt"}
    if not all(path.is_file() for path in lists.values()):
        return None
    found: dict[str, str] = {}
    for part, path in lists.items():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            name = (line.split() or [""])[0]
            if name and found.setdefault(name, part) != part:
                raise InputError(f"{path} lists {name!r}, which is for training; keep it in one list")
    return found
