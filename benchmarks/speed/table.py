"""What was measured, as tables. Run: ``python benchmarks/speed/table.py``; writes ``results.md`` beside this file."""

import json
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # Found from the checkout's root, also when kdshift is installed elsewhere.
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.speed.run import rows

HERE = Path(__file__).parent
RESULTS, OUT = HERE / "results", HERE / "results.md"


def grid(heading: list[str], lines: list[list[str]]) -> list[str]:
    """A Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (heading, ["---"] * len(heading), *lines)]


def figures(data: dict[str, Any]) -> list[str]:
    """A machine's figures, and what the contestants took."""
    results, machine = data["results"], data["machine"]
    lines = [f"## {machine['device']}, {machine['date']}", ""]
    lines += grid(["question", "figure", "quartiles", "rounds", "target", ""], [list(row) for row in rows(results)])
    for name in ("ppo", "impala"):
        facts: dict[str, Any] = next(iter(results.get(name, {}).values()), {})
        if not facts:
            continue
        size = f"{facts['environments']} environments, {facts['steps_per_environment']} steps"
        lines += ["", f"One rollout and its update, network `{facts['network']}`, {size}:", ""]
        cells = [
            [
                f"`{one}`",
                f"{facts['seconds'][one]:.2f}",
                f"{facts['update_seconds'][one]:.2f}",
                f"{facts['peak_mib'][one]:.0f}",
            ]
            for one in facts["seconds"]
        ]
        lines += grid(["", "seconds", "of these the update", "peak memory (MiB)"], cells)
    return [*lines, ""]


def shares(data: dict[str, Any]) -> list[str]:
    """Where the time goes, in seconds of one thread."""
    found: dict[str, dict[str, float]] = data["seconds"]
    kinds = [kind for kind in next(iter(found.values())) if kind != "seconds"]
    lines = [[kind, *(f"{times[kind]:.2f}" for times in found.values())] for kind in kinds]
    lines.append(["**all**, engine and Python too", *(f"{times['seconds']:.2f}" for times in found.values())])
    about = f"Seconds of one thread of {data['machine']['device']}: 64 environments, 64 steps and their update."
    return ["## Where the time goes", "", about, "", *grid(["", *(f"`{name}`" for name in found)], lines), ""]


def growth(data: dict[str, Any]) -> list[str]:
    """The curves' slopes."""
    lines = [
        [curve["of"], ", ".join(map(str, curve["sizes"])), f"{curve['slope']:.2f}"] for curve in data["curves"].values()
    ]
    table = grid(["time", "sizes", "slope from the middle on"], lines)
    return ["## How costs grow", "", "A slope of 1 is in proportion.", "", *table, "", "![curves](growth.svg)", ""]


def page() -> str:
    """All of it."""
    lines = ["# Speed", ""]
    for path in sorted(RESULTS.glob("*-cores.json")):
        lines += figures(json.loads(path.read_text()))
    for name, section in (("profile", shares), ("growth", growth)):
        if (path := RESULTS / f"{name}.json").exists():
            lines += section(json.loads(path.read_text()))
    return "\n".join(lines)


def main() -> None:
    OUT.write_text(page())


if __name__ == "__main__":
    main()
