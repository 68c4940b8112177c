"""Numbers and pictures for Weights & Biases."""

import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.errors import InputError
from common.extras import from_extra
from common.runs.disk import write_text
from common.watch.base import Pixels, Watch, gif

EXTRA = "wandb"


def library() -> Any:
    """The service's.

    Raises:
        InputError: naming the extra that brings it.
    """
    return from_extra("wandb", EXTRA, "logger=wandb needs")


class WeightsAndBiases(Watch):
    """A run of Weights & Biases, which its own variables steer: ``WANDB_MODE=offline``, ``WANDB_PROJECT``."""

    draws = True

    def __init__(self, run: Path, after: int) -> None:
        wandb = library()
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
            path.write_bytes(gif(frames))
            self._run.log({name: self._library.Video(str(path), format="gif"), "step": step})

    def end(self, settings: Mapping[str, Any], scores: Mapping[str, float]) -> None:
        """See :meth:`Watch.end`."""
        self._run.config.update(dict(settings), allow_val_change=True)
        self._run.summary.update(dict(scores))

    def close(self) -> None:
        """See :meth:`Watch.close`."""
        self._run.finish()
