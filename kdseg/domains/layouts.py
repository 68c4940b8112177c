"""How a domain's images and masks lie in its folder, and which belong together."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from common.errors import InputError
from kdseg.domains import voc
from kdseg.domains.coco import Regions, read_annotations
from kdseg.domains.decode import SUFFIXES

Kind = Literal["folders", "voc", "coco"]

UNLABELLED = "unlabelled"
"""Name of a domain's folder of images without masks."""

_NAMES_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image and its mask, if it has one: a file, or regions that annotations tell of."""

    domain: str
    name: str
    image: Path
    mask: Path | Regions | None


@dataclasses.dataclass(frozen=True)
class Found:
    """What a domain's folder holds.

    Attributes:
        pairs: Sorted by name.
        passed_over: What is no image or mask, a line for each reason.
        unlabelled: Images without masks, sorted by name.
        categories: Names of classes, where the masks are regions that name theirs.
        parts: Name → ``train`` or ``validation``, where lists beside the images say so; others are of neither.
    """

    pairs: Sequence[Pair]
    passed_over: Sequence[str]
    unlabelled: Sequence[Pair] = ()
    categories: Sequence[str] = ()
    parts: Mapping[str, str] | None = None


def domains_in(root: Path) -> list[str]:
    """Names of the domain folders in ``root``, sorted; hidden folders do not count.

    Raises:
        InputError: if ``root`` is not a folder or holds none.
    """
    if not root.is_dir():
        raise InputError(f"root={root} is not a folder; give the folder that holds one folder a domain")
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise InputError(f"root={root} holds no folder; put one folder a domain there, each with images and masks")
    return names


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where to look within a domain's folder.

    Attributes:
        kind: ``folders``: one of images and one of masks, paired by name without file type. ``voc``: those of the
            PASCAL VOC devkit, ``JPEGImages`` and ``SegmentationClass``, with ``ImageSets/Segmentation/train.txt`` and
            ``val.txt`` for training and validation where both are there. ``coco``: images, and their regions in
            ``annotations.json`` or ``annotations/*.json``.
        image_folder: Within the domain's folder; ``.`` is that itself.
        mask_folder: As above; it may be the same.
        image_suffix: How the names of images end before their file type, such as ``_image``; no part of the name.
        mask_suffix: The same of masks, such as ``_mask``.
        nested: Whether folders within those are looked into; an image's name begins with theirs.

    Raises:
        InputError: nothing would tell masks from images.
    """

    kind: Kind = "folders"
    image_folder: str = "images"
    mask_folder: str = "masks"
    image_suffix: str = ""
    mask_suffix: str = ""
    nested: bool = False

    def __post_init__(self) -> None:
        alike = Path(self.image_folder) == Path(self.mask_folder) and self.image_suffix == self.mask_suffix
        if self.kind == "folders" and alike:
            raise InputError(
                f"image_folder and mask_folder are both {self.mask_folder!r}, so nothing tells a mask from an image;"
                " give mask_suffix, such as _mask"
            )

    def find(self, root: Path, domain: str, unlabelled: bool = False) -> Found:
        """List what a domain's folder holds.

        Args:
            root: Folder of domain folders.
            domain: Name of one.
            unlabelled: Whether images may lack a mask, all of them too, and those of ``root/domain/unlabelled`` are
                listed as well.

        Raises:
            InputError: if a folder is missing or empty, an image has no mask or a mask no image, or a name
                occurs twice.
        """
        folder, passed_over = root / domain, list[str]()
        image_folder = voc.IMAGES if self.kind == "voc" else self.image_folder
        mask_folder = voc.MASKS if self.kind == "voc" else self.mask_folder
        files = _Files(folder, {"image": (image_folder, self.image_suffix), "mask": (mask_folder, self.mask_suffix)})
        only_beside = unlabelled and (folder / UNLABELLED).is_dir()
        images = files.listed("image", self.nested or self.kind == "coco", passed_over, needed=not only_beside)
        masks: Mapping[str, Path | Regions]
        categories: Sequence[str] = ()
        if self.kind == "coco":
            annotations = read_annotations(folder)
            regions, categories = annotations.by_file(folder / image_folder), annotations.categories
            names = {path: name for name, path in images.items()}
            masks = {names.get(path, str(path)): one for path, one in regions.items()}
        else:
            masks = files.listed("mask", self.nested, passed_over, needed=not unlabelled)
        bare = {name: images[name] for name in images.keys() - masks.keys()} if unlabelled or self.kind == "voc" else {}
        images = {name: path for name, path in images.items() if name not in bare}
        where = f"{folder / 'annotations'}" if self.kind == "coco" else f"{folder / mask_folder}"
        _check_alone(images, masks, where, f"{folder / image_folder}")
        if unlabelled:
            bare |= _beside(folder, self.nested, {**images, **bare}, passed_over)
        elif bare:  # the devkit has masks for a few of its images
            passed_over.append(f"{image_folder}: {len(bare)} without a mask ({_named(sorted(bare))})")
            bare = {}
        pairs = [Pair(domain, name, images[name], masks[name]) for name in sorted(images)]
        parts = voc.parts(folder) if self.kind == "voc" else None
        without = [Pair(domain, name, bare[name], None) for name in sorted(bare)]
        return Found(pairs, passed_over, without, categories, parts)


@dataclasses.dataclass(frozen=True)
class _Files:
    """Files of a domain's folder.

    Attributes:
        domain: The folder.
        places: ``image`` and ``mask`` → folder within it, and how names end there.
    """

    domain: Path
    places: Mapping[str, tuple[str, str]]

    def listed(self, what: str, nested: bool, passed_over: list[str], needed: bool = True) -> dict[str, Path]:
        """Name → file, of images or of masks; there must be some where they are needed."""
        place, suffix = self.places[what]
        folder = self.domain / place
        if not folder.is_dir():
            if not needed:
                return {}
            hint = "" if what == "image" else ", or data.unlabelled=true to be learnt from without any"
            raise InputError(
                f"{folder} is not a folder; a domain needs <root>/<domain>/images and its masks beside it{hint}"
            )
        found: dict[str, Path] = {}
        others: dict[str, list[str]] = {}
        for path in self._within(folder, nested):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if reason := _passed_over(path):
                others.setdefault(reason, []).append(path.name)
            elif not self._is(what, name):
                if not self._shared:
                    others.setdefault(f"not ending in {suffix}", []).append(path.name)
            elif (name := name.removesuffix(suffix)) in found:
                raise InputError(f"{path} and {found[name].name} have the same name; keep one of them")
            else:
                found[name] = path
        listed = [f"{len(names)} {reason} ({_named(names)})" for reason, names in others.items()]
        if needed and not found:
            held = f"; it has {', '.join(listed)}" if listed else ""
            ends = ", ".join(f"{suffix}{end}" for end in SUFFIXES)
            raise InputError(f"{folder} holds no {what}{held}; put files there that end in: {ends}")
        passed_over += [f"{place}: {line}" for line in listed]
        return found

    @property
    def _shared(self) -> bool:
        image, mask = (Path(place) for place, _ in self.places.values())
        return image == mask

    def _is(self, what: str, name: str) -> bool:
        """Whether the end of a name says so; in a folder of both, the longer ending counts."""
        suffix = self.places[what][1]
        other = next(end for kind, (_, end) in self.places.items() if kind != what)
        of_other = self._shared and len(other) > len(suffix) and name.endswith(other)
        return name.endswith(suffix) and not of_other

    def _within(self, folder: Path, nested: bool) -> Iterator[Path]:
        others = {self.domain / place for place in (*(place for place, _ in self.places.values()), UNLABELLED)}
        for path in sorted(folder.iterdir()):
            if path in others or (path.is_dir() and folder == self.domain and path.name == "annotations"):
                continue
            if nested and path.is_dir() and not path.name.startswith("."):
                yield from self._within(path, nested)
            else:
                yield path


def _check_alone(
    images: Mapping[str, Path], masks: Mapping[str, Path | Regions], mask_place: str, image_place: str
) -> None:
    found: tuple[tuple[Mapping[str, object], Mapping[str, object], str, str], ...] = (
        (images, masks, f"mask of that name in {mask_place}", " to learn from it without one"),
        (masks, images, f"image of that name in {image_place}", ""),
    )
    for these, others, missing, hint in found:
        if alone := sorted(these.keys() - others.keys()):
            more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
            raise InputError(
                f"{these[alone[0]]} has no {missing}{more}; add it or remove this file"
                + (f", or set data.unlabelled=true{hint}" if hint else "")
            )


def _beside(folder: Path, nested: bool, known: Mapping[str, Path], passed_over: list[str]) -> dict[str, Path]:
    """Images of a folder that need not be there, whose names are not among those known."""
    if not (folder / UNLABELLED).is_dir():
        return {}
    found = _Files(folder, {"image": (UNLABELLED, ""), "mask": ("", "")}).listed("image", nested, passed_over)
    if twice := sorted(found.keys() & known.keys()):
        raise InputError(f"{found[twice[0]]} and {known[twice[0]]} have the same name; keep one of them")
    return found


def _passed_over(path: Path) -> str | None:
    """Why this is no image and no mask."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_dir():
        return "folders"
    if path.is_symlink() and not path.exists():
        return "broken links"
    if not path.is_file():
        return "neither files nor folders"
    return None if path.suffix.lower() in SUFFIXES else "of another type"


def _named(names: Sequence[str]) -> str:
    more = [f"{len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else []
    return ", ".join([*names[:_NAMES_SHOWN], *more])
