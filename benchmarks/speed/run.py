"""All speed questions at once: a table with the targets, and the figures as JSON beside this file.

Run: ``python benchmarks/speed/run.py``, or with ``--only startup,augmentation`` some of it again; every measurement is
kept as it ends. A ratio is a median of paired ratios, so others on the machine do not bias it, but widen its spread;
a verdict on a busy machine is worth little where the quartiles straddle the target.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

if __name__ == "__main__":
    # Found from the checkout's root, also when kdshift is installed elsewhere.
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.speed import augmentation, machine, play, ppo, segmentation, startup, vec_env
from benchmarks.speed.pairing import Result
from common.runs.disk import write_text

# Question: (its measurement and figure, whether it must stay at or below the target, target).
TARGETS: dict[str, tuple[str, str, bool, float]] = {
    "PPO rollout + update, `kddg_sdd` / stock": ("ppo", "kddg_sdd", True, 0.8),
    "PPO rollout + update, `kddg_sdd` / stock, IMPALA": ("impala", "kddg_sdd", True, 0.65),
    "PPO rollout + update, `kddg_sdd` / `sb3_distill`'s PPD": ("ppo", "kddg_sdd/ppd", True, 0.3),
    "PPO rollout + update, `erm` / stock": ("ppo", "erm", True, 0.7),
    "PPO rollout + update, bit-identical path / stock": ("ppo", "exact", True, 1.0),
    "PPO process, `kddg_sdd` / stock, peak memory": ("ppo", "memory", True, 1.05),
    "ProcgenVecEnv / bare engine, steps/s": ("vec_env", "", False, 0.97),
    "collecting rollouts, share outside engine and network": ("rollouts", "", True, 0.1),
    "policy evaluation, 1,000 episodes / engine + network": ("evaluation", "", True, 1.15),
    "segmentation step, `kddg_sdd` / plain + teacher": ("segmentation", "", True, 1.08),
    "segmentation step, `kddg_sdd` / plain + teacher, ResNet-34 U-Net": ("segmentation_large", "", True, 1.02),
    "loading's share of a segmentation step, `colour_invert`": ("augmentation", "loading", True, 0.1),
    "`import kdrl`, seconds": ("startup", "import kdrl", True, 3.0),
    "`kdrl-train --help`, seconds": ("startup", "kdrl-train --help", True, 2.0),
}
# Smallest sizes that still run every line.
QUICK: dict[str, dict[str, Any]] = {
    "ppo": {"rounds": 1, "steps": 8, "environments": 8},
    "impala": {"rounds": 1, "steps": 8, "environments": 8},
    "vec_env": {"rounds": 2, "steps": 10},
    "rollouts": {"rounds": 1, "steps": 8, "environments": 8},
    "evaluation": {"rounds": 1, "episodes": 4, "environments": 4},
    "segmentation": {"rounds": 1, "steps": 1, "size": 32, "batch_size": 2},
    "segmentation_large": {"rounds": 1, "steps": 1, "size": 32, "batch_size": 2},
    "augmentation": {"rounds": 1, "steps": 1},
    "startup": {"rounds": 1, "names": ["kdrl-train --help"]},
}
IMPALA = {"network": "impala", "steps": 32, "names": ("stock", "kddg_sdd")}


def measure_all(
    device: str,
    quick: bool = False,
    rival: Path | None = None,
    segmentation_options: dict[str, Any] | None = None,
    only: Collection[str] = QUICK,
) -> Iterator[tuple[str, Any]]:
    """Names in :data:`QUICK` and their results, one by one; progress goes to standard error."""
    measurements: dict[str, tuple[Callable[..., dict[str, Any]], dict[str, Any]]] = {
        "ppo": (ppo.measure, {"device": device, "rival": rival}),
        "impala": (ppo.measure, {"device": device, **IMPALA}),
        "vec_env": (vec_env.measure, {}),
        "rollouts": (play.measure_rollouts, {}),
        "evaluation": (play.measure_evaluation, {}),
        "segmentation": (segmentation.measure, {"device": device, **(segmentation_options or {})}),
        "segmentation_large": (segmentation.measure, {"device": device, "network": "unet", "rounds": 5, "steps": 2}),
        "augmentation": (augmentation.measure, {}),
        "startup": (startup.measure, {}),
    }
    for name, (measure, options) in measurements.items():
        if name in only:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            yield name, measure(**(options | (QUICK[name] if quick else {})))


def found(results: dict[str, Any], name: str, part: str) -> Result | None:
    """A question's figure, or ``None`` where it was not measured, as where no rival is given."""
    measured = results.get(name, {})
    figure: Result | None = measured.get(part) if part else measured or None
    return figure


def verdict(result: Result, at_most: bool, target: float) -> str:
    met = result["value"] <= target if at_most else result["value"] >= target
    clear = result["low"] > target or result["high"] < target
    return ("met" if met else "missed") + ("" if clear else ", within the spread")


def rows(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """Every question with its figure, quartiles, rounds, target and verdict."""
    lines = []
    for question, (name, part, at_most, target) in TARGETS.items():
        if (result := found(results, name, part)) is not None:
            spread = f"{result['low']:.3f} – {result['high']:.3f}"
            bound = f"{'≤' if at_most else '≥'} {target}"
            judged = verdict(result, at_most, target)
            lines.append((question, f"{result['value']:.3f}", spread, str(result["rounds"]), bound, judged))
    return lines


def table(results: dict[str, Any], device: str) -> Table:
    lines = Table(title=f"Speed on {machine.device_name(device)}", title_justify="left")
    for heading in ("question", "figure", "quartiles", "rounds", "target", "verdict"):
        lines.add_column(heading, justify="left" if heading in ("question", "verdict") else "right")
    for row in rows(results):
        lines.add_row(*row)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--out", type=Path, help="a JSON file; default: results/ beside this file, by device")
    parser.add_argument("--quick", action="store_true", help="only see that everything runs; the figures mean nothing")
    parser.add_argument("--rival", type=Path, help="a checkout of github.com/spiglerg/sb3_distill to measure as well")
    parser.add_argument("--segmentation-network", default="unet_small", help="a file of configs/network")
    parser.add_argument("--size", type=int, default=96, help="side of the segmentation crops")
    parser.add_argument("--precision", default="32-true", help="of segmentation, as Lightning's Trainer names it")
    parser.add_argument(
        "--only", default=",".join(QUICK), help=f"some of: {','.join(QUICK)}; others are left as they are"
    )
    options = parser.parse_args()
    only = options.only.split(",")
    if unknown := [name for name in only if name not in QUICK]:
        parser.error(f"--only={unknown[0]} is not known; use some of: {', '.join(QUICK)}")
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    described = machine.describe(device)
    chosen = {"network": options.segmentation_network, "size": options.size, "precision": options.precision}
    out = options.out or Path(__file__).parent / "results" / f"{machine.slug(device)}.json"
    kept = options.out is not None or not options.quick  # otherwise the figures mean nothing
    results = json.loads(out.read_text(encoding="utf-8"))["results"] if kept and out.exists() else {}
    for name, result in measure_all(device, options.quick, options.rival, None if options.quick else chosen, only):
        results[name] = result
        if kept:
            out.parent.mkdir(parents=True, exist_ok=True)
            written = json.dumps({"machine": described, "results": results}, indent=1, ensure_ascii=False) + "\n"
            write_text(out, written)
    Console().print(table(results, device))
    if kept:
        print(f"written to {out}")


if __name__ == "__main__":
    main()
