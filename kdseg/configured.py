"""From the config groups ``data`` and ``optimizer`` to a data set and to what makes an optimiser."""

import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch

from common.arguments import Range, check_type, numbers_in
from common.configuration import Choices, build, build_partial, check_arguments
from common.overrides import Parts
from common.procgen import LOOKS
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdseg.domains.folder import FolderData
from kdseg.domains.layouts import domains_in
from kdseg.domains.procgen import ProcgenData
from kdseg.domains.split import choose_domains
from kdseg.learning_rate import LearningRate
from kdseg.losses import TaskLoss
from kdseg.module import Optimizer
from kdseg.pretrained import normalization_of
from kdseg.settings import NetworkSettings

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
        check_type(number, Finite, name)  # torch looks at some of them, and takes NaN for a momentum
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
