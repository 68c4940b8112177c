"""What does a distilled segmentation step cost beyond a plain step and the teacher's forward pass?

Ours: a step of ``kddg_sdd`` through Lightning's Trainer. Against it: a plain step of the same module plus one
forward pass of the teacher, which any distillation has to pay. All three take turns in one process, with
channels-last memory and without. Run: ``python -m benchmarks.speed.segmentation [--network unet] [--size 256]``.
"""

import argparse
import contextlib
import copy
import json
import logging
import time
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.programs import configured
from benchmarks.speed.pairing import Result, Seconds, Times, figure, summary, take_turns
from common.device import keep_freed_memory
from common.distillation import Distillation
from common.method import make_distillation
from common.teacher import Teacher
from kdseg.configured import make_optimizer
from kdseg.module import SegmentationModule
from kdseg.networks import create_network
from kdseg.segmentation_network import SegmentationNetwork

Batch = dict[str, Tensor]


class _Clock(pl.Callback):
    """Seconds of every step, from batch to optimiser, with a teacher's answer or without."""

    def __init__(self, teacher: nn.Module | None) -> None:
        self.teacher = teacher
        self.answer: Tensor | None = None
        self.times: list[Times] = []
        self._start = (0.0, 0.0)

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, *_: Any) -> None:
        self._start = _now(module.device)
        if self.teacher is not None:
            assert isinstance(module, SegmentationModule)
            with trainer.precision_plugin.forward_context():
                self.answer = self.teacher(batch["image"].contiguous(memory_format=module.memory_format))

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self.times.append(_since(self._start, module.device))


def _now(device: torch.device) -> Times:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter(), time.process_time()


def _since(start: Times, device: torch.device) -> Times:
    end = _now(device)
    return end[0] - start[0], end[1] - start[1]


def _typical(times: list[Times]) -> Times:
    """Medians over a turn's steps; the first is not counted, the optimiser makes its buffers there."""
    wall, processor = np.median(np.array(times[1:]), axis=0)
    return float(wall), float(processor)


class Bench:
    """One memory layout's three contestants; a turn is ``steps`` steps, after one that is not counted."""

    def __init__(self, config: Any, device: str, precision: str, steps: int, channels_last: bool, batch: Batch) -> None:
        torch.manual_seed(0)
        self.device, self.precision, self.steps = device, precision, steps
        self.batch = {name: values.to(device) for name, values in batch.items()}
        network = create_network(**config["network"])
        optimizer = make_optimizer(config["optimizer"])
        classes = config["network"]["classes"]
        teacher = Teacher([SegmentationNetwork(copy.deepcopy(network))])

        def module(network: nn.Module, distillation: Distillation | None) -> SegmentationModule:
            return SegmentationModule(network, classes, distillation, optimizer, channels_last).to(device)

        self.plain = module(copy.deepcopy(network), None)
        self.distilled = module(network, make_distillation(config["method"], teacher, [])[0])

    def _fit(self, module: SegmentationModule, teacher: nn.Module | None = None) -> Times:
        trainer, clock = self._trainer(), _Clock(None if teacher is None else teacher.to(self.device))
        trainer.callbacks.append(clock)  # type: ignore[attr-defined]
        trainer.fit(module, train_dataloaders=DataLoader([self.batch] * (self.steps + 1), batch_size=None))  # type: ignore[arg-type]
        return _typical(clock.times)

    def _trainer(self) -> pl.Trainer:
        return pl.Trainer(
            max_steps=self.steps + 1,
            accelerator="gpu" if self.device.startswith("cuda") else "cpu",
            devices=1,
            precision=self.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def plain_turn(self) -> Times:
        return self._fit(self.plain)

    def distilled_turn(self) -> Times:
        return self._fit(self.distilled)

    def plain_with_teacher_turn(self) -> Times:
        """Plain steps that each begin with the teacher's answer, as a distilled step does.

        Not a loop over the teacher alone: that one finds its memory warm and comes out too fast.
        """
        return self._fit(self.plain, self.distilled.distillation.teacher)


def measure(
    rounds: int = 6,
    steps: int = 3,
    network: str = "unet_small",
    size: int = 96,
    batch_size: int = 16,
    classes: int = 2,
    device: str = "cpu",
    precision: str = "32-true",
) -> Result:
    """Interleave ``rounds`` turns of ``steps`` steps of each contestant, in both memory layouts.

    The figure is the distilled step over plain step + teacher forward, channels last (the configured default);
    ``contiguous`` holds the same without; ``channels_last_gain`` is the contiguous over the channels-last step.
    """
    keep_freed_memory()  # as every program does
    composed = configured("kdseg", "data=folder", f"network={network}", "method=kddg_sdd")
    config = {key: OmegaConf.to_container(composed[key], resolve=True) for key in ("network", "method", "optimizer")}
    arguments: Any = config["network"]
    config["network"] = {key: arguments[key] for key in arguments if key not in ("name", "task")} | {"classes": classes}
    torch.manual_seed(0)
    batch = {
        "image": torch.randn(batch_size, 3, size, size),
        "mask": torch.randint(classes, (batch_size, size, size)),
        "index": torch.arange(batch_size),
    }
    with _quiet_lightning():
        benches = {
            layout: Bench(config, device, precision, steps, layout == "channels_last", batch)
            for layout in ("channels_last", "contiguous")
        }
        players = {
            f"{layout}/{name}": getattr(bench, f"{name}_turn")
            for layout, bench in benches.items()
            for name in ("distilled", "plain_with_teacher", "plain")
        }
        seconds, processor = take_turns(players, rounds)
    layouts = {
        layout: {
            **{f"{name}_milliseconds": 1e3 * value for name, value in summary(_of(seconds, layout)).items()},
            **_over_parts(_of(seconds, layout)),
            "processor": _over_parts(_of(processor, layout)),
        }
        for layout in benches
    }
    gain = figure(seconds["contiguous/distilled"] / seconds["channels_last/distilled"])
    return {
        "network": network,
        "size": size,
        "batch_size": batch_size,
        "classes": classes,
        "device": device,
        "precision": precision,
        "method": "kddg_sdd",
        "steps_per_round": steps,
        **layouts["channels_last"],
        "contiguous": layouts["contiguous"],
        "channels_last_gain": gain,
    }


def _of(seconds: dict[str, Seconds], layout: str) -> dict[str, Seconds]:
    return {key.split("/")[1]: values for key, values in seconds.items() if key.startswith(layout)}


def _over_parts(seconds: dict[str, Seconds]) -> Result:
    return figure(seconds["distilled"] / seconds["plain_with_teacher"])


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Its advice on loaders and hardware is not about what is measured here."""
    logger = logging.getLogger("pytorch_lightning")
    level = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logger.setLevel(level)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--network", default="unet_small", help="a file of configs/network")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--classes", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="32-true", help="as Lightning's Trainer names it, such as bf16-mixed")
    print(json.dumps(measure(**vars(parser.parse_args())), indent=2))


if __name__ == "__main__":
    main()
