"""What a domain is to the rest of the package: named, grouped images with masks, read when asked for."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from kdseg.domains.digests import Digest, digest_of

IGNORE = 255
"""Mask value of pixels that belong to no class: no loss, no metric."""


UNKNOWN = 254
"""Mask value of pixels of a class that is kept from training, inside this package; ignored everywhere but where unknown
inputs are to be detected."""


@dataclasses.dataclass(frozen=True)
class Item:
    """What is known of an image without reading it.

    Attributes:
        name: Its name, unique within its domain.
        group: Images of one group (one field, one video, one level) stay on one side of a split and
            are one cluster when statistics resample.
        height: Pixels.
        width: Pixels.
    """

    name: str
    group: str
    height: int
    width: int


@dataclasses.dataclass(frozen=True)
class Sample:
    """One image and its mask, as stored.

    Attributes:
        image: ``uint8 [H, W, bands]``, RGB.
        mask: ``uint8 [H, W]``, class index, 255 where ignored.
        name: The image's name within its domain.
        group: See :class:`Item`.
        domain: Name of the domain.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    name: str
    group: str
    domain: str


class DomainData(ABC):
    """The images of one domain.

    Args:
        name: Name of the domain.
        items: One entry an image, in the order of their positions.

    Attributes:
        labelled: Whether the masks say anything; where they do not, they are all zeros.
        bands: Of its images.
    """

    labelled = True
    bands = 3

    def __init__(self, name: str, items: Sequence[Item]) -> None:
        self.name = name
        self.items = list(items)

    @abstractmethod
    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return image ``uint8 [H, W, bands]`` and mask ``uint8 [H, W]`` at ``position``; not to be written to."""

    def digest(self, position: int) -> Digest:
        """What stands for image and mask at ``position``."""
        return digest_of(*self.read(position))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Sample:
        item = self.items[position]
        image, mask = self.read(position)
        return Sample(image, mask, item.name, item.group, self.name)

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(len(self)))

    def subset(self, positions: Sequence[int]) -> "DomainData":
        """The images at ``positions``, in that order, as a domain of the same name."""
        return _Subset(self, positions)


class _Subset(DomainData):
    def __init__(self, whole: DomainData, positions: Sequence[int]) -> None:
        super().__init__(whole.name, [whole.items[position] for position in positions])
        self.labelled, self.bands = whole.labelled, whole.bands
        self._whole = whole
        self._positions = list(positions)

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        return self._whole.read(self._positions[position])

    def digest(self, position: int) -> Digest:
        return self._whole.digest(self._positions[position])


class ArrayDomain(DomainData):
    """A domain that lies in memory.

    Args:
        name: Name of the domain.
        images: ``uint8 [N, H, W, bands]``, RGB.
        masks: ``uint8 [N, H, W]``, class index, 255 where ignored.
        names: Name of each image, length N.
        groups: Group of each image, length N.
    """

    def __init__(
        self,
        name: str,
        images: NDArray[np.uint8],
        masks: NDArray[np.uint8],
        names: Sequence[str],
        groups: Sequence[str],
    ) -> None:
        count, height, width = masks.shape
        if images.shape[:3] != masks.shape or images.ndim != 4 or not len(names) == len(groups) == count:
            raise ValueError(f"images {images.shape}, masks {masks.shape}, {len(names)} names, {len(groups)} groups")
        super().__init__(name, [Item(*entry, height, width) for entry in zip(names, groups, strict=True)])
        self._images, self.bands = images, images.shape[3]
        self._masks = masks

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See :meth:`DomainData.read`."""
        return self._images[position], self._masks[position]


class WithoutClass(DomainData):
    """A domain one class of which is unknown: its pixels are :data:`UNKNOWN`, and the classes behind it move up.

    Args:
        whole: The domain.
        index: Of the class.
    """

    def __init__(self, whole: DomainData, index: int) -> None:
        super().__init__(whole.name, whole.items)
        self._whole, self.bands = whole, whole.bands
        values = np.arange(256)
        values[index:UNKNOWN] -= 1
        values[index] = UNKNOWN
        self._values = values.astype(np.uint8)

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See :meth:`DomainData.read`."""
        image, mask = self._whole.read(position)
        return image, self._values[mask]

    def digest(self, position: int) -> Digest:
        """See :meth:`DomainData.digest`: of the whole image and mask."""
        return self._whole.digest(position)
