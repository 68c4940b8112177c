"""What the grids' networks cost at inference: ``python benchmarks/effect/sizes.py`` writes ``results/sizes.json``.

Parameters, and processor time of one image of 256 × 256 pixels on one thread, taken in turns.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

import torch
from torch import nn

from benchmarks.effect.committed import RESULTS
from benchmarks.programs import configured
from benchmarks.speed import machine
from benchmarks.speed.pairing import Times, Turn, take_turns
from kdseg.networks import create_network

NETWORKS = ("unet_small", "unet_lite0")


def built(name: str) -> nn.Module:
    """A network by its configuration, with random weights: they cost the same."""
    node: dict[str, Any] = dict(configured("kdseg", f"network={name}").network)
    options = {key: value for key, value in node.items() if key not in ("name", "task")} | {"encoder_weights": None}
    return create_network(classes=2, **options).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def turn(network: nn.Module) -> Turn:
    """One image through a network."""
    image = torch.rand(1, 3, 256, 256).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def one() -> Times:
        wall, processor = time.perf_counter(), time.process_time()
        network(image)
        return time.perf_counter() - wall, time.process_time() - processor

    return one


def main() -> None:
    torch.set_num_threads(1)
    networks = {name: built(name) for name in NETWORKS}
    _, seconds = take_turns({name: turn(network) for name, network in networks.items()}, 40, 5)
    found = {
        name: {
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "milliseconds": round(1000 * float(sorted(seconds[name])[len(seconds[name]) // 2]), 1),
        }
        for name, network in networks.items()
    }
    (RESULTS / "sizes.json").write_text(
        json.dumps({"machine": machine.describe("cpu"), "networks": found}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
