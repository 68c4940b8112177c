"""COCO annotations as masks: polygons and run lengths of things, each of a category."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
from numpy.typing import NDArray
from pydantic import Field

from common.errors import InputError
from common.extras import from_extra
from common.text import shown

BACKGROUND = "background"
"""Class of what no region covers."""
EXTRA = "coco"

_Side = Annotated[int, Field(ge=1, le=2**16)]
_Polygon = Annotated[list[Annotated[float, Field(allow_inf_nan=False)]], Field(min_length=6)]


@dataclasses.dataclass(frozen=True)
class _RunLengths:
    counts: list[Annotated[int, Field(ge=0)]] | str
    size: tuple[_Side, _Side]


@dataclasses.dataclass(frozen=True)
class _Image:
    id: int | str
    file_name: Annotated[str, Field(min_length=1)]
    height: _Side
    width: _Side


@dataclasses.dataclass(frozen=True)
class _Annotation:
    image_id: int | str
    category_id: int
    segmentation: Annotated[list[_Polygon], Field(min_length=1)] | _RunLengths | None = None


@dataclasses.dataclass(frozen=True)
class _Category:
    id: int
    name: Annotated[str, Field(min_length=1)]


@dataclasses.dataclass(frozen=True)
class _File:
    images: list[_Image]
    annotations: list[_Annotation]
    categories: Annotated[list[_Category], Field(min_length=1)]


_SCHEMA = pydantic.TypeAdapter(_File)
Shape = list[list[float]] | _RunLengths


@dataclasses.dataclass(frozen=True)
class Regions:
    """The regions of one image.

    Attributes:
        path: The file that tells them.
        file_name: Of the image, as it is there.
        height: Of the image, in pixels.
        width: As above.
        regions: Category and shape of each.
    """

    path: Path
    file_name: str
    height: int
    width: int
    regions: Sequence[tuple[str, Shape]]

    def __str__(self) -> str:
        return f"{self.file_name} of {self.path}"

    def labels(self, names: Sequence[str]) -> NDArray[np.uint8]:
        """Class indices ``uint8 [H, W]``: where regions overlap, the smallest one counts; elsewhere background.

        Args:
            names: Of the classes.

        Raises:
            InputError: a region that is none.
        """
        covered = [(names.index(category), self._covered(shape)) for category, shape in self.regions]
        labels = np.full((self.height, self.width), names.index(BACKGROUND), np.uint8)
        for index, where in sorted(covered, key=lambda region: -int(region[1].sum())):
            labels[where] = index
        return labels

    def _covered(self, shape: Shape) -> NDArray[np.bool_]:
        if isinstance(shape, _RunLengths):
            return self._runs(shape)
        for polygon in shape:
            points = np.array(polygon)
            # Beyond that the outline would be walked along for gigabytes of steps.
            if len(points) % 2 or (np.abs(points) > 2 * max(self.height, self.width)).any():
                raise InputError(
                    f"{self} has a polygon that is none of this image of {self.width}x{self.height} pixels"
                    f" ({shown(polygon[:4])}…); give x and y of each corner in pixels"
                )
        library = from_extra("pycocotools.mask", EXTRA, "polygons need")
        merged = library.merge(library.frPyObjects(shape, self.height, self.width))
        covered: NDArray[np.bool_] = library.decode(merged).astype(bool)
        return covered

    def _runs(self, shape: _RunLengths) -> NDArray[np.bool_]:
        counts = shape.counts
        lengths = _uncompressed(counts) if isinstance(counts, str) else counts
        # The library believes whatever is there, and leaves the rest of its memory as it was.
        if tuple(shape.size) != (self.height, self.width) or sum(lengths) != self.height * self.width:
            raise InputError(
                f"{self} has a run-length encoding that does not cover its {self.width}x{self.height} pixels; export it"
                " anew"
            )
        inside = np.arange(len(lengths)) % 2 == 1
        return np.repeat(inside, lengths).reshape(self.width, self.height).T


@dataclasses.dataclass(frozen=True)
class Annotations:
    """What the files of a domain tell.

    Attributes:
        folder: Of the domain.
        categories: Their names, by their numbers.
        images: Name of an image's file → its regions.
    """

    folder: Path
    categories: Sequence[str]
    images: Mapping[str, Regions]

    def by_file(self, image_folder: Path) -> dict[Path, Regions]:
        """The regions by the image's file, whether its name is given from the domain's folder or from its images'."""
        from_domain = image_folder.relative_to(self.folder).parts
        found = {}
        for name, regions in self.images.items():
            parts = Path(name).parts
            within = parts[len(from_domain) :] if parts[: len(from_domain)] == from_domain else parts
            found[image_folder.joinpath(*within)] = regions
        return found


def read_annotations(folder: Path) -> Annotations:
    """Read ``annotations.json`` of a domain's folder, or all of ``annotations/*.json`` as one.

    Raises:
        InputError: there is none, it is no such file, or two of them contradict each other.
    """
    single, several = folder / "annotations.json", sorted((folder / "annotations").glob("*.json"))
    paths = [single] if single.is_file() else several
    if not paths:
        raise InputError(f"{folder} has neither annotations.json nor annotations/*.json; add one, or set data.layout")
    categories: dict[int, str] = {}
    images: dict[str, Regions] = {}
    for path in paths:
        content = _content(path)
        for category in content.categories:
            if categories.setdefault(category.id, category.name) != category.name:
                raise InputError(f"{path} calls category {category.id} {shown(category.name)}; another file differs")
        own = {category.id: category.name for category in content.categories}
        for regions in _by_image(path, content, own):
            if regions.file_name in images:
                raise InputError(f"{regions} is also in {images[regions.file_name].path}; keep one of them")
            images[regions.file_name] = regions
    return Annotations(folder, [categories[number] for number in sorted(categories)], images)


def class_names(given: Sequence[str] | None, categories: Iterable[str]) -> list[str]:
    """The names of the classes: as given, or background and the categories as they come.

    Raises:
        InputError: names were given, and background or a category is not among them.
    """
    found = list(dict.fromkeys([BACKGROUND, *categories]))
    names = found if given is None else list(given)
    if lost := [name for name in found if name not in names]:
        raise InputError(f"class_names={names} has no {shown(lost[0])}; name all of: {', '.join(found)}")
    return names


def _content(path: Path) -> _File:
    try:
        return _SCHEMA.validate_json(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{path} is not a file of COCO annotations ({place + ': ' if place else ''}{first['msg']})"
        ) from error


def _by_image(path: Path, content: _File, categories: Mapping[int, str]) -> list[Regions]:
    regions: dict[Any, list[tuple[str, Shape]]] = {image.id: [] for image in content.images}
    for number, annotation in enumerate(content.annotations):
        place = f"{path}: annotation {number} (counted from 0)"
        if annotation.image_id not in regions:
            raise InputError(f"{place} is of an image {shown(annotation.image_id)} that is not listed")
        if annotation.category_id not in categories:
            raise InputError(f"{place} is of a category {annotation.category_id} that is not listed")
        if annotation.segmentation is None:
            raise InputError(f"{place} has no segmentation; a box alone does not say which pixels are meant")
        regions[annotation.image_id].append((categories[annotation.category_id], annotation.segmentation))
    return [Regions(path, image.file_name, image.height, image.width, regions[image.id]) for image in content.images]


def _uncompressed(text: str) -> list[int]:
    """Lengths of runs from the text that COCO's own tools write: five bits a character, each less the last but one.

    Raises nothing: a text that is none gives lengths that do not add up.
    """
    lengths: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value = shift = 0
    return lengths if all(length >= 0 for length in lengths) else []
