"""Augmentation, and the only module that touches albumentations.

A pipeline is a list, of which :mod:`kdseg.domains.presets` has some by name. Its entries are albumentations transforms,
or mappings that name one, as in a configuration::

    - transform: HorizontalFlip
      p: 0.5
    - transform: OneOf
      transforms:
        - transform: GaussNoise
        - transform: GaussianBlur

``_target_: albumentations.HorizontalFlip`` instead of ``transform: HorizontalFlip`` does as well.
"""

import difflib
import inspect
import os
import random
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from kdseg.domains.presets import Preset
from kdseg.domains.sample import IGNORE

# Importing albumentations asks the registry for a newer release unless told not to; there will be none
# under this licence, and training must not depend on a network.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations

_KINDS = (albumentations.BasicTransform, albumentations.BaseCompose)
Transform = Any  # one of the above; the library comes without types
Augmentation = Preset | Sequence[Mapping[str, Any] | Transform] | None

# Pixels stay uint8 until the data set normalises them, so that every pipeline is judged on the same scale.
_CHANGES_TYPE = {"Normalize", "ToFloat", "FromFloat", "ToTensorV2", "ToTensor3D"}


class Pipeline:
    """A random crop followed by the given transforms, the same for the same seed in any process.

    albumentations keeps generators of its own: seeding numpy or torch does not reach them, and forked
    worker processes inherit the same state, so that workers (and epochs) repeat each other's
    augmentations. Here every call is seeded instead.

    Args:
        augmentation: The transforms, applied in order; see the module's text.
        crop_size: Side in pixels of a random square crop that is taken first; smaller images are padded
            with black, ignored pixels. ``None`` takes no crop.

    Raises:
        InputError: if a transform is not known, not given what it needs, or changes the pixels' type.
    """

    def __init__(self, augmentation: Sequence[Mapping[str, Any] | Transform], crop_size: int | None = None) -> None:
        transforms: list[Transform] = []
        if crop_size is not None:
            pad = albumentations.PadIfNeeded(crop_size, crop_size, position="random", fill=0, fill_mask=IGNORE)
            transforms += [pad, albumentations.RandomCrop(crop_size, crop_size)]
        own = [build_transform(entry) for entry in augmentation]
        self._clean = _Clean()
        moving = [number for number, transform in enumerate(own) if not _keeps_places(transform)]
        self._after = moving[-1] + 1 if moving else 0
        self._first = own[: self._after]
        self._compose = albumentations.Compose([*transforms, *self._first, self._clean, *own[self._after :]])

    def check_clean(self) -> None:
        """Raise unless pixels are moved first and changed afterwards, so that there is a clean image in between.

        Raises:
            InputError: naming the transform that comes too early.
        """
        early = [transform for transform in self._first if not _moves_only(transform)]
        if early:
            raise InputError(
                f"teacher_view=clean: augmentation {type(early[0]).__name__} changes pixels before"
                f" {type(self._first[-1]).__name__} moves them; put what moves pixels first"
            )

    def __call__(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: Sequence[int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return an augmented copy of ``image`` (``uint8 [H, W, bands]``) and ``mask`` (``uint8 [H, W]``).

        Equal ``seed`` (non-negative integers) gives equal results.
        """
        augmented, moved, _ = self.both(image, mask, seed)
        return augmented, moved

    def both(
        self, image: NDArray[np.uint8], mask: NDArray[np.uint8], seed: Sequence[int]
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """As when called, and third the image moved as the other two but with its pixels as they were.

        See :meth:`check_clean` for pipelines that have no such image.
        """
        rng = np.random.default_rng(seed)
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        try:
            result: dict[str, NDArray[np.uint8]] = self._compose(image=image, mask=mask)
        except (ValueError, TypeError) as error:
            if image.shape[2] == 3:
                raise
            reason = " ".join(str(error).split())
            raise InputError(f"augmentation: a transform cannot take {image.shape[2]} bands ({reason})") from error
        return result["image"], result["mask"], self._clean.image


class _Clean(albumentations.NoOp):  # type: ignore[misc]
    """Keeps the image as it is at this place of a pipeline; draws nothing, so that all else is as without it."""

    def __call__(self, *args: Any, force_apply: bool = False, **data: Any) -> Any:
        self.image: NDArray[np.uint8] = data["image"].copy()
        return data


def _leaves(transform: Transform) -> list[Transform]:
    if not isinstance(transform, albumentations.BaseCompose):
        return [transform]
    return [leaf for child in transform.transforms for leaf in _leaves(child)]


def _keeps_places(transform: Transform) -> bool:
    """Whether every pixel stays where it is: such a transform leaves masks alone."""
    return all(isinstance(leaf, albumentations.ImageOnlyTransform) for leaf in _leaves(transform))


def _moves_only(transform: Transform) -> bool:
    return not any(isinstance(leaf, albumentations.ImageOnlyTransform) for leaf in _leaves(transform))


def build_transform(entry: Mapping[str, Any] | Transform) -> Transform:
    """Make a transform from its configuration; one that is made already is returned as it is.

    Pixels that a transform moves in from outside the image are ignored unless the mapping sets
    ``fill_mask``; the library's own default labels them class 0 (transforms already made have that).

    Raises:
        InputError: if the transform is not known, is one that changes the pixels' type, or its arguments
            do not fit it.
    """
    if isinstance(entry, _KINDS):
        _refuse_type_change(type(entry).__name__)
        return entry
    target = entry.get("transform", entry.get("_target_")) if isinstance(entry, Mapping) else None
    if not isinstance(target, str):
        raise InputError(f"augmentation entry {entry!r} names no transform; write e.g. transform: HorizontalFlip")
    name, kind = _find(target)
    arguments = {str(key): _plain(value) for key, value in entry.items() if key not in ("transform", "_target_")}
    accepted = list(inspect.signature(kind).parameters)
    if unknown := [key for key in arguments if key not in accepted]:
        raise InputError(f"augmentation {name} does not know {', '.join(unknown)}; it takes: {', '.join(accepted)}")
    if "transforms" in arguments:
        arguments["transforms"] = [build_transform(child) for child in arguments["transforms"]]
    if "fill_mask" in accepted:
        arguments.setdefault("fill_mask", IGNORE)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            return kind(**arguments)
    except (TypeError, ValueError, UserWarning) as error:
        reason = " ".join(str(error).split(" For further information")[0].split())
        raise InputError(f"augmentation {name} cannot be made: {reason}") from error


def _plain(value: Any) -> Any:
    """Turn a configuration's own containers into lists and dicts, which is what albumentations checks for."""
    if isinstance(value, Mapping):
        return {str(key): _plain(child) for key, child in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(child) for child in value]
    return value


def _find(target: str) -> tuple[str, type]:
    package, _, name = target.rpartition(".")
    if package.split(".")[0] not in ("", "albumentations"):
        raise InputError(f"augmentation {target!r} is not albumentations'; use the name of one of its transforms")
    known = [key for key, value in vars(albumentations).items() if inspect.isclass(value) and issubclass(value, _KINDS)]
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or ["HorizontalFlip", "ColorJitter"]
        raise InputError(f"augmentation {target!r} is not known to albumentations; did you mean: {', '.join(close)}")
    _refuse_type_change(name)
    return name, getattr(albumentations, name)


def _refuse_type_change(name: str) -> None:
    if name in _CHANGES_TYPE:
        raise InputError(
            f"augmentation {name} changes the pixels' type; leave it out, images are normalised afterwards"
        )


def normalization(mean: Sequence[float], std: Sequence[float]) -> Transform:
    """What the data set does to pixels last, as a pipeline of the library, for whoever applies a network elsewhere."""
    return albumentations.Compose([albumentations.Normalize(mean=tuple(mean), std=tuple(std), max_pixel_value=255.0)])
