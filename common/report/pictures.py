"""Pictures from runs: predicted masks beside the truth, frames a policy saw, and what AuG-KD generated."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from common.evaluation.segmentation import IGNORE_INDEX
from common.report.escape import in_figure
from common.report.results import Domain, Result
from common.report.samples import draw
from common.report.settings import Setting
from common.report.theme import class_colours
from common.runs.items import Key

Image = NDArray[Any]

_WRONG = np.array([235, 30, 50])
_ROWS = 3
_FRAMES = 8
_CELL = 1.9  # inches
_STRETCHED = 3.0  # a picture's cell is at most so many times as high as wide, or as wide as high
_MOST_CLASSES = 24  # named below the pictures


def overlays(setting: Setting, domain: Domain) -> Figure | None:
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
    if images is None or masks is None:
        return None
    chosen = _most_different([result.array("prediction", domain) for result in results.values()], masks)
    rows = len(chosen)
    height, width = images.shape[1:3]
    stretched = min(max(height / width, 1 / _STRETCHED), _STRETCHED)
    figure = Figure(figsize=(_CELL * (2 + len(results)), _CELL * stretched * 2 * rows + 0.7))
    grid = figure.subplots(2 * rows, 2 + len(results), squeeze=False)
    names = _class_names(first, masks)
    colours = (255 * np.array(class_colours(len(names)))).astype(np.uint8)
    for row, position in enumerate(chosen):
        image, mask = images[position], masks[position]
        _draw_image(grid[2 * row : 2 * row + 2], image, mask, colours)
        for column, (_, result) in enumerate(results.items(), start=2):
            prediction = result.array("prediction", domain)
            if prediction is not None:
                _draw_prediction(grid[2 * row : 2 * row + 2, column], image, mask, prediction[position], colours)
    for column, title in enumerate(["image", "truth", *results]):
        grid[0, column].set_title(in_figure(title), loc="center")
    patches = [
        Patch(color=colour, label=in_figure(name))
        for colour, name in zip(class_colours(len(names)), names, strict=True)
    ][:_MOST_CLASSES]
    patches.append(Patch(color=tuple(_WRONG / 255), label="wrong"))
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)))
    return figure


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


def frames(setting: Setting) -> Figure | None:
    """Frames kept by the first run that has any, a row per domain; ``None`` if no run kept frames."""
    for result in setting.results():
        if rows := _kept_frames(setting, result):
            return _draw_frames(rows)
    return None


def frames_source(setting: Setting) -> str:
    """Which run :func:`frames` shows."""
    for result in setting.results():
        if _kept_frames(setting, result):
            return f"{result.name}, seed {result.last.seed}"
    return ""


def anchored(setting: Setting) -> Figure | None:
    """Samples on their way through AuG-KD's generator, of the first run that has any; ``None`` if none has."""
    for result in setting.results():
        for key, images in result.items.items():
            confidence = result.items.get(key._replace(name="anchor_confidence"))
            if key.name == "anchor_images" and confidence is not None:
                return draw({"images": images, "confidence": confidence})
    return None


def _kept_frames(setting: Setting, result: Result) -> list[tuple[Domain, Image]]:
    found = [(domain, result.array("image", domain)) for domain in setting.domains]
    return [(domain, images[:_FRAMES]) for domain, images in found if images is not None and len(images)]


def _draw_frames(rows: list[tuple[Domain, Image]]) -> Figure:
    columns = max(len(images) for _, images in rows)
    figure = Figure(figsize=(1.15 * columns, 1.4 * len(rows)))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for axes in grid.flat:
        _bare(axes)
    for line, (domain, images) in zip(grid, rows, strict=True):
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image)
        line[0].set_title(f"{in_figure(domain.name)} · {'seen' if domain.seen else 'unseen'}")
    return figure


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


def _draw_image(cells: NDArray[Any], image: Image, mask: Image, colours: Image) -> None:
    for axes in cells.flat:
        _bare(axes)
    cells[0, 0].imshow(image)
    cells[0, 1].imshow(_tinted(image, mask, colours))


def _draw_prediction(cells: NDArray[Any], image: Image, mask: Image, prediction: Image, colours: Image) -> None:
    counted = mask != IGNORE_INDEX
    wrong = counted & (prediction != mask)
    cells[0].imshow(_tinted(image, prediction, colours))
    errors = _grey(image)
    errors[wrong] = _WRONG
    cells[1].imshow(errors)
    share = wrong.sum() / max(1, counted.sum())
    cells[1].set_xlabel(f"{100 * share:.1f} % wrong", fontsize=9, labelpad=2)


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


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
