"""Train a segmentation network with a method and record how it does on an unseen domain: kdseg-train."""

import copy
import functools
from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn

from common.application import run as run_application
from common.augkd import Domain
from common.augkd.program import augkd_term, prepare_term, sample_items
from common.averaging import make_averager
from common.errors import NonFiniteLossError
from common.method import METHOD_PARTS
from common.processes import is_first_process
from common.runs import lifecycle
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.keeper import Keeper
from common.runs.records import AVERAGED, LAST, Judged, Record
from common.runs.selection import Selection
from common.runs.training import Outcome, Training
from common.runs.weights import weights_path
from common.terms import AuGKD
from kdseg.anchors import student_domain
from kdseg.callbacks import LearningCurve, all_finite, show_examples
from kdseg.configured import (
    DATA_PARTS,
    configured_method,
    make_data,
    make_module,
    source_domains,
    with_normalization,
    without_validation,
)
from kdseg.domains.datamodule import Part
from kdseg.domains.draws import check_shares
from kdseg.domains.findings import write_findings
from kdseg.domains.held_out import write_images
from kdseg.identity import identify
from kdseg.measure import glimpse, measure, validated_temperature
from kdseg.records import items, print_scores, rows, score_row
from kdseg.resume import StateKeeping, restore_module
from kdseg.settings import TrainSettings
from kdseg.trainer import make_trainer, quiet_lightning, trainer_arguments


class SegmentationTraining(Training):
    """What is particular to training a segmentation network.

    Args:
        settings: As configured; classes and sources are filled in from the data.
        console: Where it tells what it does.

    Raises:
        InputError: anything in the settings that cannot be used; nothing has been written.
    """

    def __init__(self, settings: TrainSettings, console: Console) -> None:
        super().__init__(settings, console)
        self.settings, self.steps = settings, settings.trainer.max_steps
        self.arguments = trainer_arguments(settings)
        pl.seed_everything(settings.seed, workers=True, verbose=False)
        settings.data = with_normalization(settings.data, settings.network)
        self.data = make_data(settings.data)
        settings.classes, settings.in_channels = list(self.data.class_names), self.data.in_channels
        if "sources" in settings.data:  # "all others" would be other domains once the run is judged on another target
            settings.data["sources"] = list(self.data.source_names)
        lacking = without_validation(settings, self.data)
        averaging = make_averager(settings.averaging, lacking)
        Selection(settings.selection).check(lacking)
        self.averaging_from = None if averaging is None else averaging.start
        self.distillation, paths = configured_method(settings, self.data, console)
        self.teachers = [Run(path) for path in paths]
        if self.teachers and settings.teacher_view == "clean":
            self.data.train_dataset.show_clean()
        if (count := self.data.unlabelled_count) and not self.distillation.uses_unlabelled:
            self.data.leave_unlabelled_out()
            console.print(f"method={self.distillation.name} learns nothing from images without masks: {count} left out")
        # Seeded again, so that the network's first weights do not depend on the teacher before it.
        pl.seed_everything(settings.seed, workers=True, verbose=False)
        trainer = make_trainer(console, settings, None, self.arguments, [])  # whatever it refuses, it refuses now
        check_shares(self.data.loading.batch_size, trainer.world_size)
        self.device = trainer.strategy.root_device
        self.parts = [*self.data.validation_parts, self.data.test_parts[0]]
        self.module = make_module(settings, self.data, self.distillation, averaging)
        self.anchored = augkd_term(self.distillation, self.module.network, self.own_domain, settings.anchor)

    def identity(self) -> Identity:
        """See :class:`common.runs.training.Training`."""
        return identify(self.settings, self.data, self.module.averaging, self.teachers)

    def describe(self, run: Run) -> None:
        """List the images, and what was found beside them."""
        write_images(run, self.data.images())
        if self.data.found:
            write_findings(run, self.data.found, self.data.notes)

    def begin(self) -> None:
        """Show how good the teacher is: a wrong one should be seen before hours are spent on it."""
        teacher = self.distillation.teacher
        if self.settings.teacher and not self.teachers:
            self.console.print(f"method={self.distillation.name} asks no teacher; the one given is not used")
        if teacher is None:
            return
        for domain, (score, count) in glimpse(teacher, self.data, torch.device("cpu")).items():
            self.console.print(
                f"teacher: mIoU {score:.3f} on source domain {domain} ({count} validation images)", markup=False
            )

    def row(self, judged: Judged, metric: str, value: float) -> Record:
        """See :class:`common.runs.training.Training`."""
        settings, data = self.settings, self.data
        own = Part(", ".join(data.source_names), True, data.train_dataset)
        return score_row(settings, data, own, "progress", metric, value, judged)

    def own_domain(self, term: AuGKD) -> Domain:
        """The student's, as a term of AuG-KD is shown it."""
        return student_domain(self.data, self.module.network)

    def prepare(self, keeper: Keeper) -> None:
        """AuG-KD's artefact, on the device that is trained on."""
        if self.anchored is None:
            return
        network, domain = self.module.network.to(self.device), self.own_domain(self.anchored)
        row = functools.partial(self.row, keeper.judged(LAST, 0))
        prepare_term(self.anchored, self.distillation, network, domain, self.settings, keeper, self.console, row)

    def fit(self, keeper: Keeper) -> int:
        """See :class:`common.runs.training.Training`."""
        data, module, position = self.data, self.module, {"epoch": 0, "batches": 0}
        self.console.print(
            f"training {self.distillation.name} into {keeper.run.path}\n{data.summary()}", markup=False, soft_wrap=True
        )
        if keeper.players is not None:
            restore_module(module, keeper.players)
            position = keeper.players["position"]
        curve = LearningCurve(self.settings, data, self.parts, keeper, self.row)
        callbacks: list[pl.Callback] = [curve, StateKeeping(keeper)]
        self.trainer = trainer = make_trainer(self.console, self.settings, keeper.watch, self.arguments, callbacks)
        if trainer.world_size > 1:
            keeper.exact = keeper.exact and keeper.players is None
        loaders = [data.eval_dataloader(part.dataset) for part in self.parts]
        training = data.train_dataloader(position["epoch"], position["batches"])
        try:
            with keeper.interruption.deferred():
                trainer.fit(module, train_dataloaders=training, val_dataloaders=loaders)
        except NonFiniteLossError as error:
            # Not saved: batch statistics have seen this batch, and an earlier step may have spoilt the parameters.
            saved = weights_path(keeper.run, LAST).exists()
            kept = f"the last checkpoint of finite weights is in {keeper.run.checkpoints}"
            raise NonFiniteLossError(
                f"{error}; training stopped, {kept if saved else 'no weights were saved'}"
            ) from error
        if not all_finite(module.network):
            raise NonFiniteLossError(
                f"weights are not finite after the last step, {trainer.global_step}; nothing was tested"
            )
        module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU
        return trainer.global_step

    def networks(self) -> dict[str, nn.Module]:
        """See :class:`common.runs.training.Training`."""
        found: dict[str, nn.Module] = {LAST: self.module.network}
        if self.module.averaging is not None and self.module.averaging.begun:
            found[AVERAGED] = self.module.averaged_network()
        return found

    def copied(self) -> nn.Module:
        """See :class:`common.runs.training.Training`."""
        return copy.deepcopy(self.module.network).eval()

    def show(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> None:
        """An image of every tested domain, its labels and what the last weights make of it."""
        data, steps = self.data, keeper.status.steps
        show_examples(keeper.watch, "test", networks[LAST], data.test_parts, data.num_classes, steps)

    def test(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> Outcome:
        """See :class:`common.runs.training.Training`."""
        data, settings = self.data, self.settings
        device = next(networks[LAST].parameters()).device
        arrays: dict[str, Any] = {}
        held_out: list[Record] = []
        found: list[Record] = []
        for selection, network in networks.items():
            # The module lays images out as in training.
            judge = self.module if selection == LAST else network
            fitted = validated_temperature(judge, data, device)
            validation = [measure(judge, data, part, device, self.console, fitted) for part in data.validation_parts]
            known = {id(result.part): result for result in validation}
            tested = [
                known.get(id(part)) or measure(judge, data, part, device, self.console, fitted)
                for part in data.test_parts
            ]
            arrays |= items(data, tested, selection)
            judged = keeper.judged(selection)
            for result in validation:
                held_out += rows(settings, data, result, "validation", judged)
            for result in tested:
                found += rows(settings, data, result, "test", judged)
            print_scores(self.console, data, tested, selection)
        arrays |= sample_items(keeper.run, ", ".join(data.source_names))
        return Outcome([*held_out, *found], arrays)


def train(settings: TrainSettings) -> None:
    """Train, test, and leave a run's folder; goes on with the run where it was interrupted.

    Raises:
        InputError: anything in the settings that cannot be used, before something is written.
        AlreadyFinishedError: this very run is there, finished.
        NonFiniteLossError: training diverged; the last checkpoint, if there was one, is in the run's folder.
        Interrupted: a signal came; the same settings go on.
    """
    quiet_lightning()
    lifecycle.check_early(settings.run_dir)
    lifecycle.train(SegmentationTraining(settings, Console(quiet=not is_first_process())))


def main() -> None:
    """Entry point of ``kdseg-train``."""
    parts = {**METHOD_PARTS, **DATA_PARTS}
    run_application("kdseg/train", TrainSettings, train, parts, lambda settings: source_domains(settings.data))


if __name__ == "__main__":
    main()
