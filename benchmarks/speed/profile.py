"""Where an update's time goes, in stock PPO and in ours: a share of processor time by kind of operation.

Run: ``python -m benchmarks.speed.profile [--network impala]``; writes ``results/profile.json``. One rollout of 64
environments and its update on CoinRun, one thread; every model in a process of its own.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.contest import Contestant, Told, serve
from benchmarks.speed.machine import describe
from benchmarks.speed.ppo import CONTESTANTS, Player, make, settings

RESULTS = Path(__file__).parent / "results" / "profile.json"
# By the first of these that an operation's name holds.
KINDS = {
    "convolution, backward": ("convolution_backward", "conv2d_backward"),
    "convolution, forward": ("convolution", "conv2d"),
    "dense layers": ("addmm", "mm", "linear"),
    "copies and conversions": ("copy", "clone", "contiguous", "index", "cat", "fill", "zero", "_to_copy"),
    "division": ("div",),
    "activations and pooling": ("relu", "threshold", "clamp_min", "max_pool"),
    "optimiser": ("adam", "foreach", "addcdiv", "lerp"),
}


def turn(player: Player) -> Told:
    """Milliseconds of processor time by kind of operation, of one rollout and its update."""
    start = time.process_time()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        player.turn()
    told = dict.fromkeys([*KINDS, "other operations"], 0.0)
    for event in seen.key_averages():
        if event.key.startswith("aten::"):
            name = event.key.removeprefix("aten::")
            kind = next(
                (kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "other operations"
            )
            told[kind] += event.self_cpu_time_total / 1e6
    processor = time.process_time() - start
    return {"seconds": processor, "processor": processor, **told}


def measure(network: str = "small", steps: int = 64, names: tuple[str, ...] = CONTESTANTS) -> dict[str, Told]:
    """Of each contestant's second turn."""
    found = {}
    for name in names:
        player = Contestant(
            "benchmarks.speed.profile", f"--contestant={name}", f"--network={network}", f"--steps={steps}"
        )
        for _ in range(2):
            player.turn()
        player.close()
        found[name] = {kind: round(value, 3) for kind, value in player.told[-1].items() if kind != "processor"}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="small", choices=["small", "impala"])
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant is not None:
        torch.set_num_threads(1)
        chosen = settings("erm" if options.contestant == "erm" else "kddg_sdd", options.network, steps=options.steps)
        player = Player(make(options.contestant, chosen, None))
        serve(lambda: turn(player))
        return
    found: dict[str, Any] = measure(options.network, options.steps)
    RESULTS.write_text(json.dumps({"machine": describe("cpu"), "seconds": found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
