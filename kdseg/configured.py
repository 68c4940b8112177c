"""From a configuration to data, a method, and the module that is trained."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console

from common.arguments import Positive, Range, check_type, numbers_in
from common.averaging import Averager
from common.configuration import Choices, build, build_partial, check_arguments
from common.distillation import Distillation
from common.method import make_distillation, teacher_paths
from common.overrides import Parts
from common.procgen import LOOKS
from common.teacher import CrossFittedTeacher, Teacher
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdseg.domains.folder import FolderData
from kdseg.domains.folds import check_folds, unseen_by
from kdseg.domains.layouts import domains_in
from kdseg.domains.procgen import ProcgenData
from kdseg.domains.split import choose_domains
from kdseg.learning_rate import LearningRate, Optimizer
from kdseg.losses import TaskLoss
from kdseg.module import SegmentationModule
from kdseg.pretrained import normalization_of
from kdseg.restore import build_network, load_teacher
from kdseg.segmentation_network import check_sizes
from kdseg.settings import NetworkSettings, TrainSettings

Finite = Annotated[float, Range(0, sys.float_info.max)]
"""Not negative; no other bound will do for all of what optimisers call by a number."""

DATA_SETS: Choices = {
    "kdseg.domains.folder.FolderData": FolderData,
    "kdseg.domains.procgen.ProcgenData": ProcgenData,
}
DATA_PARTS: Parts = {"data": DATA_SETS.values()}
OPTIMIZERS: Choices = {
    f"torch.optim.{name}": kind
    for name, kind in sorted(vars(torch.optim).items())
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
}


def make_data(node: Mapping[str, Any], **extra: Any) -> SegmentationData:
    """The data set of domains that a configuration node describes.

    Raises:
        InputError: a node that makes none, or data that cannot be used.
    """
    data: SegmentationData = build(node, "data", DATA_SETS, **extra)
    return data


def with_normalization(node: Mapping[str, Any], network: NetworkSettings) -> dict[str, Any]:
    """A node of data whose pixels are normalised as the encoder's weights expect, unless it says how itself."""
    expected = normalization_of(network.encoder_name, network.encoder_weights)
    if expected in (None, (IMAGENET_MEAN, IMAGENET_STD)) or "mean" in node or "std" in node:
        return dict(node)
    assert expected is not None
    mean, std = expected
    return {**node, "mean": list(mean), "std": list(std)}


def make_optimizer(node: Mapping[str, Any]) -> Optimizer:
    """What makes an optimiser of parameters.

    Raises:
        InputError: a node that makes none.
    """
    for name, number in numbers_in(node, "optimizer"):
        # Torch looks at some of them. It takes NaN for a momentum, and 0 for what keeps it from dividing 0 by 0.
        check_type(number, Positive if name == "optimizer.eps" else Finite, name)
    optimizer: Optimizer = build_partial(node, "optimizer", OPTIMIZERS)
    return optimizer


def make_loss(node: Mapping[str, Any]) -> TaskLoss:
    """The task's loss.

    Raises:
        InputError: a node that makes none.
    """
    return TaskLoss(**check_arguments(TaskLoss, node, "loss"))


def make_learning_rate(node: Mapping[str, Any]) -> LearningRate:
    """How the optimiser's rate changes.

    Raises:
        InputError: a node that makes none.
    """
    return LearningRate(**check_arguments(LearningRate, node, "learning_rate"))


def source_domains(node: Mapping[str, Any]) -> list[str]:
    """Names of the domains that a node of data trains on.

    Raises:
        InputError: they cannot be told.
    """
    given, target = node.get("sources"), check_type(node.get("target"), str, "data.target")
    sources = None if given is None else check_type(given, list[str], "data.sources")
    if node.get("_target_") == "kdseg.domains.procgen.ProcgenData":
        return choose_domains(LOOKS, target, sources, "of the game")
    folder = Path(check_type(node.get("root"), str, "data.root")).expanduser()
    return choose_domains(domains_in(folder), target, sources, f"in {folder}")


def configured_method(
    settings: TrainSettings, data: SegmentationData, console: Console
) -> tuple[Distillation, list[str]]:
    """The configured method and the folders of the teachers it uses.

    Raises:
        InputError: a method, term or teacher that cannot be used.
    """
    paths = teacher_paths(settings.teacher)
    teacher: Teacher | None = None
    if paths:
        weights, combine = settings.teacher_weights, settings.teacher_combine
        teacher, notes = load_teacher(paths, data, weights, combine, settings.unfinished, settings.teacher_shares)
        for note in notes:
            console.print(f"warning: {note}", style="yellow", markup=False)
    distillation, used = make_distillation(settings.method, teacher, paths)
    if isinstance(distillation.teacher, CrossFittedTeacher):
        distillation.teacher.folds = check_folds(used, data.train_dataset.domains)
    elif settings.teacher_domains == "unseen" and distillation.teacher is not None:
        distillation.teacher.answering = unseen_by(used, data.train_dataset.domains)
    return distillation, used


def make_module(
    settings: TrainSettings, data: SegmentationData, distillation: Distillation, averaging: Averager | None
) -> SegmentationModule:
    """The module, after whatever an optimiser or a network refuses: before anything is written."""
    module = SegmentationModule(
        build_network(settings.network, data.num_classes, in_channels=data.in_channels),
        data.num_classes,
        distillation,
        make_optimizer(settings.optimizer),
        settings.channels_last,
        [part.domain for part in data.validation_parts],
        averaging,
        [data.target_name],
        make_loss(settings.loss),
        make_learning_rate(settings.learning_rate),
    )
    module.make_batches = data.whole_batches
    module.configure_optimizers()
    check_sizes(module.network, _image_sizes(data))
    return module


def _image_sizes(data: SegmentationData) -> list[tuple[int, int]]:
    """Height and width of what is trained on, and the lowest and narrowest of what is judged on."""
    crop = data.loading.crop_size
    seen = data.train_dataset.items if crop is None else []
    judged = (item for part in (*data.validation_parts, *data.test_parts) for item in part.dataset.items)
    sizes = {(item.height, item.width) for item in (*seen, *judged)}
    return [*([] if crop is None else [(crop, crop)]), min(sizes), min(sizes, key=lambda size: size[::-1])]


def without_validation(settings: TrainSettings, data: SegmentationData) -> str | None:
    """What keeps a run from validating on source domains along the way, if anything."""
    every, steps = settings.evaluation.every, settings.trainer.max_steps
    if not 0 < every <= steps:
        return f"a run of {steps} steps with evaluation.every={every}"
    if getattr(settings.trainer, "limit_val_batches", 1) == 0:
        return "a run with trainer.limit_val_batches=0"
    return None if data.validation_parts else "a run without validation images (see data.validation_fraction)"
