"""Numbers and pictures for TensorBoard."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.watch.base import Pixels, Watch, gif


class TensorBoard(Watch):
    """Events in the run's folder ``tensorboard``."""

    draws = True

    def __init__(self, run: Path, after: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What a run had shown after the step that it goes on from is not shown twice.
        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=after + 1 if after else None)
        # What ends the library's own thread, such as a full disk, is raised by the next call; the thread need not print
        # it with its traceback, too.
        self._hook = threading.excepthook
        threading.excepthook = self._of_a_thread

    def _of_a_thread(self, args: threading.ExceptHookArgs) -> None:
        if not (isinstance(args.exc_value, OSError) and type(args.thread).__module__.startswith("tensorboard.")):
            self._hook(args)

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
        encoded = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=gif(frames))
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
        try:
            self._writer.close()
        finally:
            threading.excepthook = self._hook
