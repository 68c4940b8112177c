"""Teachers from the folders of finished runs, the same for both tasks."""

from collections.abc import Callable, Sequence

from torch import nn

from common.runs.folder import Run
from common.teacher import Combination, Teacher


def load_teachers(
    paths: Sequence[str], load: Callable[[Run], nn.Module], combine: Combination, unfinished: bool
) -> Teacher:
    """One teacher of the networks of runs.

    Args:
        paths: The runs' folders.
        load: From a run to its network; refuses one that cannot teach here.
        combine: What of several is averaged.
        unfinished: Whether runs that are not finished will do.

    Raises:
        InputError: a folder that is no run's, a run that is not finished, or one that ``load`` refuses.
    """
    networks = []
    for path in paths:
        run = Run(path)
        networks.append(load(run))
        run.check_finished(f"teacher={path}", unfinished)
    return Teacher(networks, combine)
