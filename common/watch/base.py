"""What a training shows of itself, wherever: numbers, pictures, films, and how it ended."""

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.runs.records import LAST, Record

Pixels = NDArray[np.uint8]
_MILLISECONDS = 100  # between two frames of a film


class Watch:
    """Where a training shows itself; this one shows nothing.

    Attributes:
        draws: Whether pictures are worth making.
    """

    draws = False

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Numbers by name, ``group/what``."""

    def picture(self, name: str, pixels: Pixels, step: int) -> None:
        """``uint8 [H, W, 3]``."""

    def film(self, name: str, frames: Sequence[Pixels], step: int) -> None:
        """``uint8 [H, W, 3]`` each."""

    def end(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """What the run was, by dotted key, and how it did."""

    def close(self) -> None:
        """Write what has not been written yet."""

    def records(self, records: Iterable[Record]) -> None:
        """Numbers of the run's own record."""
        by_step: dict[int, dict[str, float]] = {}
        for record in records:
            by_step.setdefault(record.steps, {})[name_of(record)] = record.value
        for step, values in by_step.items():
            self.scalars(values, step)


def name_of(record: Record) -> str:
    """``test/unseen/fluorescence/miou``; of weights other than the last, theirs behind it."""
    weights = [] if record.selection == LAST else [record.selection]
    return "/".join([record.split, seen_or_not(record.seen), record.domain, record.metric, *weights])


def seen_or_not(seen: bool) -> str:
    """How names say it."""
    return "seen" if seen else "unseen"


class Several(Watch):
    """All of several."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self._watches = watches
        self.draws = any(watch.draws for watch in watches)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Watch.scalars`."""
        for watch in self._watches:
            watch.scalars(values, step)

    def picture(self, name: str, pixels: Pixels, step: int) -> None:
        """See :meth:`Watch.picture`."""
        for watch in self._watches:
            watch.picture(name, pixels, step)

    def film(self, name: str, frames: Sequence[Pixels], step: int) -> None:
        """See :meth:`Watch.film`."""
        for watch in self._watches:
            watch.film(name, frames, step)

    def end(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """See :meth:`Watch.end`."""
        for watch in self._watches:
            watch.end(settings, scores)

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        for watch in self._watches:
            watch.close()


def gif(frames: Sequence[Pixels]) -> bytes:
    """A film as an animated GIF."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0)
    return file.getvalue()
