"""Teachers from the folders of finished runs, the same for both tasks."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import nn

from common.errors import InputError
from common.runs.folder import Run
from common.runs.metrics import TASKS
from common.runs.records import Weights
from common.runs.weights import choose_weights
from common.teacher import Combination, Teacher

Shares = Literal["equal", "validation"]

_FALL = 0.05


def load_teachers(
    paths: Sequence[str],
    load: Callable[[Run], nn.Module],
    combine: Combination,
    unfinished: bool,
    weights: Weights = "auto",
    shares: Shares = "equal",
) -> Teacher:
    """One teacher of the networks of runs.

    Args:
        paths: The runs' folders.
        load: From a run to its network; refuses one that cannot teach here.
        combine: What of several is averaged.
        unfinished: Whether runs that are not finished will do.
        weights: Which of their weights, which is what was scored.
        shares: What each weighs; see :func:`shares_by_validation`.

    Raises:
        InputError: a folder that is no run's, a run that is not finished, one that ``load`` refuses, or one without the
            scores that it is to be weighed by.
    """
    networks, runs = [], [Run(path) for path in paths]
    for path, run in zip(paths, runs, strict=True):
        networks.append(load(run))
        run.check_finished(f"teacher={path}", unfinished)
    weighed = len(runs) > 1 and shares == "validation"
    return Teacher(networks, combine, shares_by_validation(runs, weights) if weighed else None)


def shares_by_validation(runs: Sequence[Run], weights: Weights) -> list[float]:
    """What each teacher weighs: ``exp((s_k - max s) / 0.05)``, s its mean score on its own validation (ours).

    Five points of mIoU, or of the normalised return, less make it count about a third: two weak teachers do not drag a
    good one down, and equal ones count alike. Scores of the target play no part.

    Raises:
        InputError: a run without validation scores of these weights.
    """
    scores = []
    for run in runs:
        name = choose_weights(run, weights)
        rows = [record for record in run.records() if record.split == "validation" and record.selection == name]
        own = [record.value for record in rows if record.metric == TASKS[record.task].judged_by[0]]
        if not own:
            raise InputError(
                f"teacher={run.path} has no validation scores of its {name} weights to weigh it by; use"
                " teacher_shares=equal, or train it with validation images"
            )
        scores.append(sum(own) / len(own))
    return [math.exp((score - max(scores)) / _FALL) for score in scores]
