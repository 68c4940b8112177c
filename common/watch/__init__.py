"""Where a training shows itself: TensorBoard, a table, Weights & Biases."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from common.watch import wandb
from common.watch.base import Several, Watch, name_of, seen_or_not
from common.watch.table import Table
from common.watch.tensorboard import TensorBoard
from common.watch.wandb import WeightsAndBiases

LoggerName = Literal["tensorboard", "csv", "wandb"]

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
        wandb.library()


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


__all__ = ["LoggerName", "Watch", "check_loggers", "make_watch", "name_of", "seen_or_not"]
