"""Numbers and pictures of a training for people to watch: TensorBoard, a table, Weights & Biases."""

import contextlib
import csv
import io
import os
import secrets
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TextIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from common.errors import InputError
from common.extras import from_extra
from common.runs.disk import write_text
from common.runs.records import LAST, Record

LoggerName = Literal["tensorboard", "csv", "wandb"]
EXTRA = "wandb"
TABLE = "scalars.csv"

Pixels = NDArray[np.uint8]
_MILLISECONDS = 100  # between two frames of a film
_COLUMNS = ["step", "name", "value"]


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


class TensorBoard(Watch):
    """Events in the run's folder ``tensorboard``."""

    draws = True

    def __init__(self, run: Path, after: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a run had shown after the step that it goes on from is not shown twice.
        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=after + 1 if after else None)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Watch.scalars`."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, name: str, pixels: Pixels, step: int) -> None:
        """See :meth:`Watch.picture`."""
        self._writer.add_image(name, pixels, step, dataformats="HWC")

    def film(self, name: str, frames: Sequence[Pixels], step: int) -> None:
        """See :meth:`Watch.film`."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        height, width = frames[0].shape[:2]
        encoded = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=_gif(frames))
        self._writer._get_file_writer().add_summary(Summary(value=[Summary.Value(tag=name, image=encoded)]), step)

    def end(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """See :meth:`Watch.end`: the tab of hyper-parameters."""
        from torch.utils.tensorboard import summary

        told = (bool, int, float, str)
        plain = {name: value if isinstance(value, told) else str(value) for name, value in settings.items()}
        # Not add_hparams, which writes to another file.
        make: Any = summary.hparams
        for part in make(plain, dict(scores)):
            self._writer._get_file_writer().add_summary(part)

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._writer.close()


class Table(Watch):
    """A line for each number in the run's ``scalars.csv``."""

    def __init__(self, run: Path, after: int) -> None:
        path = run / TABLE
        kept = [_COLUMNS]
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                # A line that was being written when the run was killed is cut short.
                whole = [row for row in csv.reader(file) if len(row) == len(_COLUMNS) and row[0].isdigit()]
            kept += [row for row in whole if int(row[0]) <= after]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        write_text(path, text.getvalue())
        self._file: TextIO = path.open("a", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file, lineterminator="\n")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Watch.scalars`."""
        self._writer.writerows([step, name, repr(float(value))] for name, value in values.items())
        self._file.flush()

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._file.close()


class WeightsAndBiases(Watch):
    """A run of Weights & Biases, which its own variables steer: ``WANDB_MODE=offline``, ``WANDB_PROJECT``."""

    draws = True

    def __init__(self, run: Path, after: int) -> None:
        wandb = _wandb()
        folder = run / "wandb"
        folder.mkdir(exist_ok=True)
        note = folder / "id"
        if not note.exists():
            write_text(note, secrets.token_hex(6))
        try:
            self._run = wandb.init(
                id=note.read_text(),
                resume="allow",
                dir=str(run),
                name=str(run),
                project=os.environ.get("WANDB_PROJECT", "kdshift"),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except Exception as error:  # no account, no network: its kinds are many
            raise InputError(
                f"logger=wandb: {' '.join(str(error).split())}; log in, or set WANDB_MODE=offline"
            ) from error
        self._library = wandb
        self._run.define_metric("*", step_metric="step")

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """See :meth:`Watch.scalars`."""
        self._run.log({**values, "step": step})

    def picture(self, name: str, pixels: Pixels, step: int) -> None:
        """See :meth:`Watch.picture`."""
        self._run.log({name: self._library.Image(pixels), "step": step})

    def film(self, name: str, frames: Sequence[Pixels], step: int) -> None:
        """See :meth:`Watch.film`."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "film.gif"
            path.write_bytes(_gif(frames))
            self._run.log({name: self._library.Video(str(path), format="gif"), "step": step})

    def end(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """See :meth:`Watch.end`."""
        self._run.config.update(dict(settings), allow_val_change=True)
        self._run.summary.update(dict(scores))

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._run.finish()


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


_KINDS: Mapping[str, type[TensorBoard] | type[Table] | type[WeightsAndBiases]] = {
    "tensorboard": TensorBoard,
    "csv": Table,
    "wandb": WeightsAndBiases,
}


def check_loggers(names: Sequence[str]) -> None:
    """Raise unless what they take is there.

    Raises:
        InputError: naming the extra that brings it.
    """
    if "wandb" in names:
        _wandb()


def _wandb() -> Any:
    return from_extra("wandb", EXTRA, "logger=wandb needs")


def make_watch(names: Sequence[LoggerName], run: Path, after: int = 0) -> Watch:
    """What shows a run.

    Args:
        names: Where; none shows nothing.
        run: Its folder.
        after: The step that it goes on from; what was shown after that is forgotten where it can be.

    Raises:
        InputError: a service that does not take it.
    """
    with contextlib.ExitStack() as opened:  # closed if a later one fails
        watches = [opened.enter_context(contextlib.closing(_KINDS[name](run, after))) for name in dict.fromkeys(names)]
        opened.pop_all()
    return Several(watches)


def _gif(frames: Sequence[Pixels]) -> bytes:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    file = io.BytesIO()
    first.save(file, "GIF", save_all=True, append_images=rest, duration=_MILLISECONDS, loop=0)
    return file.getvalue()
