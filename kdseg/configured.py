"""From the config groups ``data`` and ``optimizer`` to a data set and to what makes an optimiser."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from common.configuration import Choices, build, build_partial
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.folder import FolderData
from kdseg.domains.procgen import ProcgenData
from kdseg.module import Optimizer

DATA_SETS: Choices = {
    "kdseg.domains.folder.FolderData": FolderData,
    "kdseg.domains.procgen.ProcgenData": ProcgenData,
}
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


def make_optimizer(node: Mapping[str, Any]) -> Optimizer:
    """What makes an optimiser of parameters.

    Raises:
        InputError: a node that makes none.
    """
    optimizer: Optimizer = build_partial(node, "optimizer", OPTIMIZERS)
    return optimizer
