"""Pictures from runs: predicted masks beside the truth, frames a policy saw, and what AuG-KD generated."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.evaluation.segmentation import IGNORE_INDEX
from common.report.html import domain_name
from common.report.results import Domain, Result
from common.report.settings import Setting
from common.report.theme import class_colours
from common.runs.items import PANELS, Key

Image = NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """A picture ``uint8 [H, W, 3]`` and the words below it."""

    image: Image
    words: str = ""


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Pictures in rows and columns.

    Attributes:
        columns: Their headings; empty where there are none.
        rows: Heading and cells of each.
        colours: Name → red, green and blue in ``[0, 255]`` of what is marked in them.
    """

    columns: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell | None]]]
    colours: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)


_WRONG = np.array([235, 30, 50])
_ROWS = 3
_FRAMES = 8
_MOST_CLASSES = 24  # named below the pictures


def overlays(setting: Setting, domain: Domain) -> Pictures | None:
    """Test images of a domain: image, truth, then each method's prediction over its errors.

    Of the images that were kept, those on which predictions differ most from the first method's. Methods are shown
    with their lowest common seed, on the images that the first method kept; a method that kept other images is left
    out. ``None`` if no run kept pictures of the domain.
    """
    results = _same_images(setting, domain)
    if not results:
        return None
    first = next(iter(results.values()))
    images, masks = first.array("image", domain), first.array("mask", domain)
    predictions = {label: result.array("prediction", domain) for label, result in results.items()}
    if images is None or masks is None:
        return None
    names = _class_names(first, masks)
    colours = class_colours(len(names))
    rows: list[tuple[str, Sequence[Cell | None]]] = []
    for position in _most_different(list(predictions.values()), masks):
        image, mask = images[position], masks[position]
        shown = [_seen(image, mask, one[position], colours) for one in predictions.values() if one is not None]
        rows.append(("", [Cell(image), Cell(_tinted(image, mask, colours)), *(above for above, _ in shown)]))
        rows.append(("", [None, None, *(below for _, below in shown)]))
    known = dict(zip(names[:_MOST_CLASSES], colours.tolist(), strict=False))
    return Pictures(["image", "truth", *results], rows, {**known, "wrong": _WRONG.tolist()})


def _most_different(predictions: list[Image | None], masks: Image) -> list[int]:
    """Positions of a few images, ascending: where most labelled pixels are not predicted as by the first method."""
    first, *others = [one for one in predictions if one is not None]
    differ = sum(((other != first) & (masks != IGNORE_INDEX)).sum(axis=(1, 2)) for other in others)
    if isinstance(differ, int):  # there is but one method
        return list(range(min(_ROWS, len(masks))))
    return sorted(np.argsort(-differ, kind="stable")[:_ROWS].tolist())


def clips(setting: Setting) -> list[tuple[str, Domain, Image]]:
    """Method, domain and frames ``[K, H, W, 3]``: of the first method and of the best on unseen domains."""
    sign = 1 if setting.measure.higher_is_better else -1
    best = max(setting.methods, key=lambda label: sign * float(np.mean(setting.scores(label, setting.unseen))))
    found = []
    for label in dict.fromkeys([next(iter(setting.methods)), best]):
        runs = setting.methods[label]
        for domain in setting.domains:
            clip = runs[min(runs)].array("clip", domain)
            if clip is not None and len(clip) > 1:
                found.append((label, domain, clip))
    return found


def frames(setting: Setting) -> Pictures | None:
    """Frames kept by the first run that has any, a row per domain; ``None`` if no run kept frames."""
    for result in setting.results():
        if rows := _kept_frames(setting, result):
            return Pictures([], [(domain_name(domain), [*map(Cell, images)]) for domain, images in rows])
    return None


def frames_source(setting: Setting) -> str:
    """Which run :func:`frames` shows."""
    for result in setting.results():
        if _kept_frames(setting, result):
            return f"{result.name}, seed {result.last.seed}"
    return ""


def anchored(setting: Setting) -> Pictures | None:
    """Samples on their way through AuG-KD's generator, of the first run that has any; ``None`` if none has."""
    for result in setting.results():
        for key, samples in result.items.items():
            confidence = result.items.get(key._replace(name="anchor_confidence"))
            if key.name == "anchor_images" and confidence is not None:
                rows = [
                    (panel, [Cell(image, f"{sure:.2f}") for image, sure in zip(*one, strict=True)])
                    for panel, *one in zip(PANELS, samples.swapaxes(0, 1), confidence.T, strict=True)
                ]
                return Pictures([], rows)
    return None


def _kept_frames(setting: Setting, result: Result) -> list[tuple[Domain, Image]]:
    found = [(domain, result.array("image", domain)) for domain in setting.domains]
    return [(domain, images[:_FRAMES]) for domain, images in found if images is not None and len(images)]


def _same_images(setting: Setting, domain: Domain) -> dict[str, Result]:
    seeds = set.intersection(*(set(runs) for runs in setting.methods.values()))
    chosen: dict[str, Result] = {}
    reference: Image | None = None
    for label, runs in setting.methods.items():
        result = runs[min(seeds)] if seeds else runs[min(runs)]
        images = result.array("image", domain)
        wanted = (images, result.array("mask", domain), result.array("prediction", domain))
        if images is None or not len(images) or any(array is None for array in wanted):
            continue
        reference = images if reference is None else reference
        if np.array_equal(images, reference):
            chosen[label] = result
    return chosen


def _seen(image: Image, mask: Image, prediction: Image, colours: Image) -> tuple[Cell, Cell]:
    """What is predicted, and where that is wrong."""
    counted = mask != IGNORE_INDEX
    wrong = counted & (prediction != mask)
    errors = _grey(image)
    errors[wrong] = _WRONG
    share = wrong.sum() / max(1, counted.sum())
    return Cell(_tinted(image, prediction, colours)), Cell(errors, f"{100 * share:.1f} % wrong")


def _tinted(image: Image, classes: Image, colours: Image) -> Image:
    """The image in grey under its classes' colours; ignored pixels stay grey."""
    base = _grey(image)
    known = classes < len(colours)
    base[known] = (0.35 * base[known] + 0.65 * colours[classes[known]]).astype(np.uint8)
    return base


def _grey(image: Image) -> Image:
    light = image.astype(np.float64).mean(-1)
    return np.repeat((0.75 * light + 40)[..., None], 3, axis=-1).astype(np.uint8)


def _class_names(result: Result, masks: Image) -> list[str]:
    names = result.items.get(Key("class_names"))
    if names is not None:
        return [str(name) for name in names.tolist()]
    labelled = masks[masks != IGNORE_INDEX]
    return [f"class {index}" for index in range(int(labelled.max(initial=0)) + 1)]
