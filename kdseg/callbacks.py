"""What happens beside the training steps: learning curves and the progress bar."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import Tensor, nn

from common.evaluation.segmentation import mean_iou
from common.progress import TrainingBar
from common.runs.keeper import Keeper, MakeRow
from common.runs.records import AVERAGED, LAST, VALIDATED, Split
from common.watch import Watch, seen_or_not
from kdseg.domains.datamodule import Part, SegmentationData
from kdseg.module import SegmentationModule
from kdseg.overlay import example
from kdseg.records import score_row
from kdseg.settings import TrainSettings


class LearningCurve(pl.Callback):
    """Records mIoU of every validation loader, for the network and its average, off the training clock.

    So is what filters took meanwhile. Weights are chosen by the mean over the sources, or over the target alone where
    an oracle was asked for.

    Args:
        settings: The run's settings.
        data: The data.
        parts: What the trainer's validation loaders hold, in their order.
        keeper: Keeps the clock and the records.
        row: Makes a row about the training itself.
    """

    def __init__(
        self,
        settings: TrainSettings,
        data: SegmentationData,
        parts: Sequence[Part],
        keeper: Keeper,
        row: MakeRow,
    ) -> None:
        self.settings, self.data, self.parts, self.keeper, self.row = settings, data, parts, keeper, row
        self._pause = contextlib.ExitStack()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock."""
        self._pause.enter_context(self.keeper.clock.paused())

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a row per loader and let the clock go on."""
        assert isinstance(pl_module, SegmentationModule)
        if trainer.is_global_zero and not trainer.sanity_checking:
            scores = _scores(pl_module.confusions)
            self._record(scores, LAST, trainer.global_step)
            self._record(_scores(pl_module.averaged_confusions), AVERAGED, trainer.global_step)
            self._offer(pl_module.network, scores)
            self.keeper.record_shares(pl_module.distillation.tally, self.row, trainer.global_step)
            if self.keeper.watch.draws:
                watch, steps = self.keeper.watch, trainer.global_step
                show_examples(watch, "progress", pl_module.network, self.parts, self.data.num_classes, steps)
        self._pause.close()

    def _offer(self, network: nn.Module, scores: Mapping[int, float]) -> None:
        for rule in self.keeper.selection.rules:
            own = [score for number, score in scores.items() if self.parts[number].seen == (rule == VALIDATED)]
            if own:
                self.keeper.selection.offer(rule, network, float(np.mean(own)))

    def _record(self, scores: Mapping[int, float], selection: str, steps: int) -> None:
        judged = self.keeper.judged(selection, steps)
        for number, value in scores.items():
            part = self.parts[number]
            if not np.isnan(value):
                self.keeper.record([score_row(self.settings, self.data, part, "progress", "miou", value, judged)])


def show_examples(
    watch: Watch, split: Split, network: nn.Module, parts: Sequence[Part], num_classes: int, steps: int
) -> None:
    """An image of every part, its labels and what a network makes of it."""
    for part in parts:
        picture = example(network, part.dataset, num_classes)
        watch.picture(f"{split}/{seen_or_not(part.seen)}/{part.domain}", picture, steps)


def _scores(confusions: Mapping[int, Tensor]) -> dict[int, float]:
    return {number: float(mean_iou(matrix.cpu().numpy())) for number, matrix in confusions.items()}


def all_finite(network: nn.Module) -> bool:
    """Whether no parameter or buffer holds an infinite value or NaN."""
    return all(bool(torch.isfinite(tensor).all()) for tensor in network.state_dict().values())


class ProgressBar(pl.Callback):
    """The training bar over steps, not epochs, with the latest loss."""

    def __init__(self, console: Console, total: int) -> None:
        self.bar = TrainingBar(console, total)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the bar."""
        if trainer.is_global_zero:
            self.bar.start(trainer.global_step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar; the loss is read now and then, since reading it waits for the device."""
        if trainer.is_global_zero and (trainer.global_step % 10 == 0 or trainer.global_step == trainer.max_steps):
            self.bar.update(trainer.global_step, f"loss {float(outputs['loss']):.4f}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Leave the bar as it stands."""
        self.bar.stop()
