"""A network of a run on a folder of images: kdseg-predict."""

import csv
import functools
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import track

from common.application import run as run_application
from common.errors import InputError
from common.report.theme import class_colours
from common.runs.disk import read_text, write_atomically, write_text
from common.text import visible
from kdseg.domains.decode import SUFFIXES
from kdseg.domains.images import as_colours, checked_range, read_image
from kdseg.overlay import overlay
from kdseg.predictor import Predictor
from kdseg.settings import PredictSettings
from kdseg.tiles import Tiling


def predict(settings: PredictSettings) -> None:
    """Write masks, and what else was asked for, of all images in a folder; where some are there already, the rest.

    Under ``out`` are ``masks`` (class indices, with a palette), ``overlays`` and ``confidence`` (probability of the
    predicted class, 255 for 1), each in the folders that the images lie in, ``predictions.csv`` with the share of each
    class, and ``predict.json``, which says what they were made with.

    Raises:
        InputError: no finished segmentation run, no image there, every image broken, or an ``out`` that holds
            something else, or what was made in another way.
    """
    paths = [settings.run] if isinstance(settings.run, str) else settings.run
    root, files = _images(Path(settings.images))
    out = Path(settings.out)
    tiling = Tiling(settings.tile, settings.overlap)
    predictor = Predictor.of_runs(paths, settings.weights, settings.unfinished, settings.flips, tiling, settings.device)
    if settings.value_range is not None:
        predictor.value_range = checked_range(settings.value_range)
    _begin(out, settings, predictor)
    names = _output_names(root, files)
    writer = _Writer(out, predictor, settings.overlays, settings.confidence)
    console, skipped, rows = Console(), [], []
    for path in track(files, "predicting", console=console, transient=True):
        try:
            rows.append([str(path.relative_to(root)), *writer.write(path, names[path])])
        except InputError as error:
            skipped.append(visible(str(error)))
            console.print(f"skipped: {skipped[-1]}", markup=False, highlight=False, soft_wrap=True)
    if not rows:
        raise InputError(f"images={settings.images}: none of {len(files)} can be used ({skipped[0]})")
    write_text(out / "predictions.csv", _table(predictor, rows))
    count = f"{len(rows)} of {len(files)} images" if skipped else f"{len(rows)} images"
    console.print(f"{count}: masks in {out / 'masks'}", markup=False, highlight=False, soft_wrap=True)


def _images(given: Path) -> tuple[Path, list[Path]]:
    """The folder that output folders are relative to, and the files."""
    if given.is_file():
        return given.parent, [given]
    if not given.is_dir():
        raise InputError(f"images={given} does not exist; give a folder of images, or one")
    files = sorted(path for path in given.rglob("*") if _is_image(path.relative_to(given)) and path.is_file())
    if not files:
        raise InputError(f"images={given} holds no image; known are {', '.join(SUFFIXES)}")
    return given, files


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in path.parts)


def _output_names(root: Path, files: list[Path]) -> dict[Path, Path]:
    """Each file's place and name, as a PNG; with the suffixes they had where two names differ in these alone."""
    places = [path.relative_to(root) for path in files]
    plain = [place.with_suffix(".png") for place in places]
    if len(set(plain)) < len(plain):
        plain = [place.with_name(f"{place.name}.png") for place in places]
    return dict(zip(files, plain, strict=True))


def _begin(out: Path, settings: PredictSettings, predictor: Predictor) -> None:
    """Refuse a folder of other things; say what the masks are made with."""
    made_with: dict[str, Any] = {
        "run": settings.run,
        "weights": settings.weights,
        "classes": predictor.class_names,
        **{name: getattr(settings, name) for name in ("tile", "overlap", "flips", "overlays", "confidence")},
        "value_range": predictor.value_range,
    }
    note = out / "predict.json"
    text = json.dumps(made_with, indent=1) + "\n"
    if note.is_file():
        if read_text(note) != text:
            raise InputError(f"out={out} holds predictions made in another way ({note}); choose another folder")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"out={out} exists and is no folder of predictions; choose another")
    write_text(note, text)


class _Writer:
    """Writes what is predicted of one image after the other."""

    def __init__(self, out: Path, predictor: Predictor, overlays: bool, confidence: bool) -> None:
        self._out, self._predictor = out, predictor
        self._overlays, self._confidence = overlays, confidence
        self._colours = class_colours(len(predictor.class_names))

    def write(self, path: Path, name: Path) -> list[float]:
        """Share of each class. The mask is written last: where there is one, nothing is missing."""
        target = self._out / "masks" / name
        if target.exists():
            return self._shares(np.asarray(Image.open(target)))
        pixels = as_colours(read_image(path, self._predictor.value_range).pixels)
        try:
            probabilities = self._predictor(pixels)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        mask, sure = probabilities.argmax(axis=0).astype(np.uint8), probabilities.max(axis=0)
        if self._overlays:
            _save(Image.fromarray(overlay(pixels, mask, self._colours)), self._out / "overlays" / name)
        if self._confidence:
            _save(Image.fromarray(np.rint(255 * sure).astype(np.uint8)), self._out / "confidence" / name)
        _save(self._palette(mask), target)
        return self._shares(mask)

    def _palette(self, mask: NDArray[np.uint8]) -> Image.Image:
        image = Image.fromarray(mask)
        image.putpalette(self._colours.tobytes())
        return image

    def _shares(self, mask: NDArray[np.uint8]) -> list[float]:
        counts = np.bincount(mask.ravel(), minlength=len(self._predictor.class_names))
        shares: list[float] = (counts / counts.sum()).tolist()
        return shares


def _save(image: Image.Image, path: Path) -> None:
    write_atomically(path, functools.partial(image.save, format="PNG"))


def _table(predictor: Predictor, rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["image", *predictor.class_names])
    writer.writerows([name, *(f"{share:.6f}" for share in shares)] for name, *shares in rows)
    return text.getvalue()


def main() -> None:
    """Entry point of ``kdseg-predict``."""
    run_application("kdseg/predict", PredictSettings, predict)


if __name__ == "__main__":
    main()
