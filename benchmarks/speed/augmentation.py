"""What do augmentation presets, and a clean view for the teacher, cost of a training step with two workers?

Run: ``python benchmarks/speed/augmentation.py``; writes ``results/augmentation.json``. Every contestant trains the
small network on crops of the nuclei in the repository, read by two worker processes; they take turns. The ratio is to
the same steps on crops that are not augmented. A turn is long beside the four batches that workers have ready when it
begins.
"""

import argparse
import itertools
import json
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, get_args

import torch
from omegaconf import OmegaConf
from torch.nn import functional as F

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.programs import configured
from benchmarks.speed.machine import describe
from benchmarks.speed.pairing import Times, figure, summary, take_turns
from common.device import keep_freed_memory
from kdseg.domains.dataset import Entry
from kdseg.domains.folder import FolderData
from kdseg.domains.presets import Preset
from kdseg.networks import create_network

RESULTS = Path(__file__).parent / "results" / "augmentation.json"
NUCLEI = Path(__file__).parents[2] / "tests" / "data" / "nuclei"
CROP, BATCH, WORKERS = 128, 8, 2
AUGMENTED = (*get_args(Preset), "colour, clean view")


class Steps:
    """Training steps on batches that workers make ready; a turn is ``steps`` of them."""

    def __init__(self, augmentation: Any, clean: bool, steps: int, kept: bool = False) -> None:
        torch.manual_seed(0)
        network = OmegaConf.to_container(configured("kdseg", "data=nuclei").network)
        assert isinstance(network, dict)
        options = {str(key): value for key, value in network.items() if key not in ("name", "task")}
        self.network = create_network(classes=2, **options).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = torch.optim.AdamW(self.network.parameters(), lr=1e-3)
        self.data = FolderData(
            NUCLEI, "fluorescence", batch_size=BATCH, crop_size=CROP, num_workers=WORKERS, augmentation=augmentation
        )
        if clean:
            self.data.train_dataset.show_clean()
        self.steps, self._loaded = steps, self._endless()
        self.batches = itertools.repeat(next(self._loaded)) if kept else self._loaded

    def close(self) -> None:
        """Stop the workers, for whose end the interpreter waits seconds otherwise."""
        self._loaded.close()

    def _endless(self) -> Generator[Entry, None, None]:
        loader = self.data.train_dataloader()
        while True:
            yield from loader

    def __call__(self) -> Times:
        """Seconds of a turn, on the wall's clock and of this process."""
        start = time.perf_counter(), time.process_time()
        for _ in range(self.steps):
            batch = next(self.batches)
            images = batch["image"].contiguous(memory_format=torch.channels_last)
            loss = F.cross_entropy(self.network(images), batch["mask"], ignore_index=255)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
        return time.perf_counter() - start[0], time.process_time() - start[1]


def measure(rounds: int = 5, steps: int = 40) -> dict[str, Any]:
    """Ratios of a step's time to that without augmentation, by contestant; and what a step would be less, as a share,
    if batches of ``colour_invert`` came from memory (``loading``)."""
    torch.set_num_threads(1)
    keep_freed_memory()
    players = {"none": Steps([], False, steps)}
    players |= {name: Steps(name, False, steps) for name in get_args(Preset)}
    players["colour, clean view"] = Steps("colour", True, steps)
    players["one batch again and again"] = Steps("colour_invert", False, steps, kept=True)
    wall, _ = take_turns(players, rounds)
    for player in players.values():
        player.close()
    loading = figure(1 - wall["one batch again and again"] / wall["colour_invert"])
    ratios = {name: figure(seconds / wall["none"]) for name, seconds in wall.items() if name in AUGMENTED}
    return {"seconds": summary(wall), "ratios": ratios, "loading": loading}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    what = {"crop": CROP, "batch_size": BATCH, "workers": WORKERS, **vars(options)}
    found = {"machine": describe("cpu"), **what, **measure(options.rounds, options.steps)}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["ratios"], indent=1))


if __name__ == "__main__":
    main()
