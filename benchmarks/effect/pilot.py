"""Which games plain PPO learns on two cores, with which settings: a section of the results' page."""

import numpy as np

from benchmarks.effect.committed import budget, chance, description, rows_of
from benchmarks.effect.grids import GRIDS


def section() -> list[str]:
    """Normalised return on the levels of training, which alone decided; beside it what chance earns."""
    rows, grid = rows_of("pilot"), GRIDS["pilot"]
    by_chance = chance()
    found = {(row["target"], row["method"]): row["scores"] for row in rows}
    lines = [
        "## Pilot: which games plain PPO learns in a quarter of a million steps",
        "",
        budget(description("pilot"), (row["steps"] for row in rows))
        + " Normalised return (%) on the 200 levels of training, last / averaged weights, beside that of "
        f"{by_chance['episodes']} episodes of chance. What was found is `experiment=cpu`.",
        "",
        f"| game | chance | {' | '.join(_title(name, given) for name, given in grid.methods.items())} |",
        f"|---|--:|{'--:|' * len(grid.methods)}",
    ]
    for game in grid.targets:
        cells = [
            " / ".join(_percent(scores[weights]["seen"]) for weights in ("last", "averaged")) if scores else "–"
            for scores in (found.get((game, method)) for method in grid.methods)
        ]
        drawn = {domain: one["normalized_return"] for domain, one in by_chance["games"][game]["seen"].items()}
        lines.append(f"| {game} | {_percent(drawn)} | {' | '.join(cells)} |")
    return [*lines, ""]


def _title(name: str, given: tuple[str, ...]) -> str:
    settings = [one.removeprefix("ppo.").removeprefix("network.") for one in given if not one.startswith("method=")]
    return f"{name}: {', '.join(settings)}" if settings else name


def _percent(scores: dict[str, float]) -> str:
    return f"{100 * float(np.mean(list(scores.values()))):.1f}"
