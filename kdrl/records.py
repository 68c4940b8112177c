"""What a policy's run records: rows, arrays for later statistics, and the table that a user sees."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from common.runs.items import item_key
from common.runs.records import LAST, Judged, Record, library_versions
from kdrl.episodes import Episodes
from kdrl.game import Part
from kdrl.settings import TrainSettings


def rows(settings: TrainSettings, part: Part, returns: NDArray[np.float64], judged: Judged) -> list[Record]:
    """Records of one part: mean return, and what that is worth."""
    mean = float(returns.mean())
    values = {"return": mean, **settings.env.scores(mean)}
    return [score_row(settings, part, metric, value, len(returns), judged) for metric, value in values.items()]


def score_row(settings: TrainSettings, part: Part, metric: str, value: float, count: int, judged: Judged) -> Record:
    """One record of a policy's run, measured on ``count`` items of a part."""
    env = settings.env
    source = env.source
    return Record(
        task="rl",
        method=str(settings.method["name"]),
        seed=settings.seed,
        source=[source],
        target=source,
        domain=part.domain(env.game),
        seen=part.seen,
        split=part.split,
        metric=metric,
        value=value,
        n=count,
        network=settings.network.name,
        versions=library_versions(),
        **dataclasses.asdict(judged),
    )


def items(
    game: str, measured: Sequence[tuple[Part, Episodes]], selection: str = LAST
) -> dict[str, NDArray[np.generic]]:
    """Arrays for ``items.npz`` of the test parts."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for part, episodes in measured:
        if part.split != "test":
            continue
        kept: dict[str, NDArray[np.generic]] = {
            "return": episodes.returns,
            "level": episodes.levels,
            **({"image": episodes.frames, "clip": episodes.clip} if len(episodes.frames) else {}),
        }
        for name, array in kept.items():
            arrays[item_key(name, part.domain(game), part.seen, selection)] = array
    return arrays


def print_returns(
    console: Console, game: str, measured: Sequence[tuple[Part, Episodes]], selection: str = LAST
) -> None:
    """The table a user sees at the end: mean return and standard error per part."""
    table = Table(title="Return, sampled actions" + ("" if selection == LAST else f", {selection} weights"))
    for heading in ("domain", "levels", "mean", "standard error", "episodes"):
        table.add_column(heading, justify="left" if heading in ("domain", "levels") else "right")
    for part, episodes in measured:
        n = len(episodes.returns)
        error = episodes.returns.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
        levels = "validation" if part.split == "validation" else ("seen" if part.seen else "unseen")
        table.add_row(part.domain(game), levels, f"{episodes.returns.mean():.2f}", f"{error:.2f}", str(n))
    console.print(table)
