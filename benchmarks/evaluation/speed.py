"""What evaluation costs: calibration beside plain scores, the way of the weights beside a step, all corruptions.

Run: ``python benchmarks/evaluation/speed.py --nuclei DIR``; writes ``results/speed.json``. Ratios are medians of pairs
that take turns in one process.
"""

import argparse
import copy
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.speed.machine import describe
from common.device import keep_freed_memory
from common.evaluation.calibration import measure_calibration
from common.evaluation.conditions import Condition
from common.evaluation.corruptions import CORRUPTIONS
from common.evaluation.unknown import SCORES
from common.runs.travel import Travel
from kdseg.domains.datamodule import Part
from kdseg.domains.folder import FolderData
from kdseg.domains.sample import IGNORE
from kdseg.measure import evenly, measure
from kdseg.measures import Corrupting
from kdseg.metrics import batch_confusion
from kdseg.networks import create_network
from kdseg.segmentation_network import SegmentationNetwork

RESULTS = Path(__file__).parent / "results" / "speed.json"
MOST, SEVERITIES = 32, (1, 3, 5)


def ratio(first: Callable[[], None], second: Callable[[], None], pairs: int) -> float:
    """Median of second over first."""
    found = []
    for _ in range(pairs + 1):
        seconds = []
        for work in (first, second):
            started = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - started)
        found.append(seconds[1] / seconds[0])
    return round(float(np.median(found[1:])), 4)


def small() -> SegmentationNetwork:
    """The network of ``network=unet_small``."""
    torch.manual_seed(0)
    options = {"encoder_depth": 3, "decoder_channels": [32, 16, 16]}
    return SegmentationNetwork(create_network("unet", "tu-resnet18", None, 2, **options)).eval()


@torch.no_grad()
def scores_and_more(network: SegmentationNetwork, pairs: int) -> float:
    """Calibration at two temperatures and three scores of unknown inputs, over prediction and confusion matrices."""
    images, masks = torch.randn(8, 3, 256, 256), torch.randint(0, 2, (8, 256, 256))

    def plain() -> None:
        batch_confusion(network(images).float(), masks, 2)

    def more() -> None:
        logits = network(images).float()
        batch_confusion(logits, masks, 2)
        for temperature in (1.0, 1.5):
            measure_calibration(logits, masks, masks != IGNORE, temperature)
        for score in SCORES.values():
            score(logits).mean(dim=(1, 2))

    return ratio(plain, more, pairs)


def way(pairs: int) -> float:
    """A training step with the way of the weights over one without."""
    images, masks = torch.randn(8, 3, 96, 96), torch.randint(0, 2, (8, 96, 96))

    def stepping(network: SegmentationNetwork, followed: bool) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
        if followed:
            Travel().follow(optimizer, network.parameters())

        def work() -> None:
            for _ in range(5):
                optimizer.zero_grad()
                F.cross_entropy(network(images), masks).backward()
                optimizer.step()

        return work

    network = small().train()
    return ratio(stepping(network, False), stepping(copy.deepcopy(network), True), pairs)


def corrupted(nuclei: Path, network: SegmentationNetwork) -> dict[str, float]:
    """Minutes for every corruption at three severities on images of all domains, and how many images that are."""
    data = FolderData(nuclei, target="purple_on_white", class_names=["background", "nucleus"])
    network = copy.deepcopy(network).to(memory_format=torch.channels_last)
    started, count = time.perf_counter(), 0
    for part in data.test_parts:
        some = part.dataset.some(evenly(len(part.dataset), MOST))
        count += len(some)
        for name in CORRUPTIONS:
            for severity in SEVERITIES:
                change = Corrupting(Condition("corruption", name, str(severity)))
                changed = Part(part.domain, part.seen, some.changed(change))
                measure(network, data, changed, torch.device("cpu"), Console(quiet=True))
    return {"images": count, "minutes": round((time.perf_counter() - started) / 60, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nuclei", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    keep_freed_memory()  # as every program does
    network = small()
    found = {
        "machine": describe("cpu"),
        "pairs": options.pairs,
        "calibration and unknown-input scores / plain evaluation": scores_and_more(network, options.pairs),
        "step with the way of the weights / step": way(options.pairs),
        "all corruptions": corrupted(options.nuclei, network),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
