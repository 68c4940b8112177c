"""Images of domains as tensors."""

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, NotRequired, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor
from torch.utils.data import Dataset

from common.arguments import Count, Number, Positive, Range, Seed, checked_fields
from common.errors import InputError
from kdseg.domains.augmentation import Augmentation, Pipeline
from kdseg.domains.draws import Draw
from kdseg.domains.presets import preset
from kdseg.domains.sample import IGNORE, UNKNOWN, DomainData, Sample
from kdseg.domains.tiff import MOST

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

Batch = Annotated[int, Range(1, 2**16)]
Side = Annotated[int, Range(1, 2**14)]
Workers = Annotated[int, Range(0, 1024)]
Channels = Annotated[Sequence[Number], Field(min_length=2, max_length=MOST)]
Deviations = Annotated[Sequence[Positive], Field(min_length=2, max_length=MOST)]
"""A number for each band: red, green and blue."""


Change = Callable[[NDArray[np.uint8], NDArray[np.uint8], Sequence[int]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]
"""From an image, its mask and a seed to others, as :class:`kdseg.domains.augmentation.Pipeline`."""


class Entry(TypedDict):
    """One image as tensors; a batch has the same keys with a leading dimension.

    ``image`` float32 ``[bands, H, W]``, normalised; ``mask`` int64 ``[H, W]``, 255 where ignored; ``index``, the
    image's number among all images of the experiment (training images come first, from 0); ``domain``, the
    position of its domain in ``domain_names``. Where asked for (:meth:`SegmentationDataset.show_clean`), ``clean`` is
    ``image`` before its pixels were changed. Where some images have no labels, ``labelled`` says which do; the others'
    ``mask`` is 0, and 255 where there is no image.
    """

    image: Tensor
    mask: Tensor
    index: int
    domain: int
    clean: NotRequired[Tensor]
    labelled: NotRequired[bool]


@checked_fields
@dataclasses.dataclass(frozen=True)
class Loading:
    """How images become batches.

    Attributes:
        batch_size: Images in a training batch.
        eval_batch_size: Largest number of images in a validation or test batch; these hold whole images of
            one size each.
        crop_size: Side in pixels of the random square crops for training; ``None`` takes whole images, which
            must then have one size.
        augmentation: What is done to training images after the crop: the name of a preset
            (:mod:`kdseg.domains.presets`; ``None`` is ``mild``) or transforms (:mod:`kdseg.domains.augmentation`).
        upright: Whether up and down mean something in these images, so that presets mirror them left to right only.
        balanced: Whether every training batch holds equally many images of each source domain.
        samples_per_epoch: Training images drawn in an epoch; ``None`` means as many as there are. Rounded up
            to whole batches.
        num_workers: Worker processes of each loader. Batches do not depend on it.
        seed: Seeds order and augmentation.
        mean: Per channel, subtracted from pixels scaled to [0, 1].
        std: Per channel, divides what is left.
        bands: Of the images, where they are not red, green and blue.
    """

    batch_size: Batch = 16
    eval_batch_size: Batch = 8
    crop_size: Side | None = 96
    augmentation: Augmentation = "mild"
    upright: bool = False
    balanced: bool = True
    samples_per_epoch: Count | None = None
    num_workers: Workers = 0
    seed: Seed = 0
    mean: Channels = IMAGENET_MEAN
    std: Deviations = IMAGENET_STD
    bands: Annotated[int, Range(1, MOST)] = 3

    def for_bands(self, bands: int) -> "Loading":
        """The same for images of so many bands; numbers for three are repeated, as pretrained first layers are.

        Raises:
            InputError: numbers for another count.
        """
        mean, std = (
            [values[band % 3] for band in range(bands)] if len(values) == 3 else list(values)
            for values in (self.mean, self.std)
        )
        for name, values in (("mean", mean), ("std", std)):
            if len(values) != bands:
                raise InputError(f"{name} has {len(values)} numbers, and the images have {bands} bands; give as many")
        return dataclasses.replace(self, mean=mean, std=std, bands=bands)

    def transforms(self) -> Sequence[Any]:
        """The training transforms after the crop, one by one."""
        if self.augmentation is None or isinstance(self.augmentation, str):
            return preset(
                self.augmentation or "mild", self.upright, square=self.crop_size is not None, bands=self.bands
            )
        return self.augmentation

    def pipeline(self) -> Pipeline:
        """The training pipeline."""
        return Pipeline(self.transforms(), self.crop_size)


class SegmentationDataset(Dataset[Entry]):
    """Images of one or several domains as tensors.

    Args:
        domains: The domains, in order.
        domain_indices: What ``domain`` says of each of them.
        loading: Normalisation and seed.
        first_index: ``index`` of the first image.
        pipeline: Augmentation; ``None`` gives whole images as they are.
    """

    def __init__(
        self,
        domains: Sequence[DomainData],
        domain_indices: Sequence[int],
        loading: Loading,
        first_index: int = 0,
        pipeline: Change | None = None,
    ) -> None:
        self.domains = list(domains)
        self.items = [item for domain in domains for item in domain.items]
        self.first_index = first_index
        self._where = [
            (domain, position, number)
            for domain, number in zip(domains, domain_indices, strict=True)
            for position in range(len(domain))
        ]
        self._pipeline = pipeline
        self._shows_clean = False
        self._says_labelled = not all(domain.labelled for domain in domains)
        self._seed = loading.seed
        self._mean = np.asarray(loading.mean, dtype=np.float32)
        self._std = np.asarray(loading.std, dtype=np.float32)

    def __len__(self) -> int:
        return len(self._where)

    def show_clean(self) -> None:
        """From now on entries also have ``clean``, at the cost of one more normalisation.

        Raises:
            InputError: the pipeline changes pixels before it moves them.
        """
        if isinstance(self._pipeline, Pipeline):
            self._pipeline.check_clean()
            self._shows_clean = True

    def changed(self, pipeline: Change) -> "SegmentationDataset":
        """The same images, each put through a pipeline when it is read."""
        other = copy.copy(self)
        other._pipeline = pipeline
        return other

    def some(self, positions: Sequence[int]) -> "SegmentationDataset":
        """A few of the images; their numbers are counted anew."""
        other = copy.copy(self)
        other.items = [self.items[position] for position in positions]
        other._where = [self._where[position] for position in positions]
        return other

    def sample(self, index: int) -> Sample:
        """The image at ``index`` (counted from 0 in this data set) as stored, with its name and group."""
        domain, position, _ = self._where[index]
        sample = domain[position]
        return dataclasses.replace(sample, mask=_known(sample.mask))

    def unknown(self, index: int) -> NDArray[np.bool_]:
        """``[H, W]``, where the image at ``index`` shows the class that is kept from training."""
        domain, position, _ = self._where[index]
        shown: NDArray[np.bool_] = domain.read(position)[1] == UNKNOWN
        return shown

    def __getitem__(self, key: int | Draw) -> Entry:
        """Return an image; a :data:`~kdseg.domains.draws.Draw` also says how it is augmented."""
        index, draw = key if isinstance(key, tuple) else (key, 0)
        domain, position, number = self._where[index]
        image, mask = domain.read(position)
        mask = _known(mask)
        seed = (self._seed, draw, index)
        clean = None
        if self._shows_clean and isinstance(self._pipeline, Pipeline):
            image, mask, clean = self._pipeline.both(image, mask, seed)
        elif self._pipeline is not None:
            image, mask = self._pipeline(image, mask, seed)
        entry = Entry(
            image=self._normalized(image),
            mask=torch.from_numpy(mask.astype(np.int64)),
            index=self.first_index + index,
            domain=number,
        )
        if self._says_labelled:
            entry["labelled"] = domain.labelled
        if clean is not None:
            entry["clean"] = self._normalized(clean)
        return entry

    def _normalized(self, image: NDArray[np.uint8]) -> Tensor:
        scaled = (image.astype(np.float32) / np.float32(255) - self._mean) / self._std
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def labels_of(batch: Mapping[str, Any]) -> Tensor:
    """The labels of a batch ``int64 [B, H, W]``, 255 also wherever an image has none."""
    mask: Tensor = batch["mask"]
    return mask if "labelled" not in batch else mask.masked_fill(~batch["labelled"].view(-1, 1, 1), IGNORE)


def _known(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A mask whose unknown pixels are ignored."""
    return np.where(mask == UNKNOWN, IGNORE, mask).astype(np.uint8) if (mask == UNKNOWN).any() else mask
