"""The way back to segmentation-models-pytorch: folders that it loads on a machine without this package."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import Weights
from kdseg.domains.augmentation import normalization
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD
from kdseg.networks import SegmentationNetwork
from kdseg.restore import load_network, normalization_of


def save_stock(
    network: nn.Module,
    directory: str | Path,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
) -> None:
    """Write a folder that ``smp.from_pretrained`` takes: the network alone, in the library's own layout.

    It holds the weights, the arguments they were made with, a card, and how images are to be normalised, which
    ``albumentations.Compose.from_pretrained(directory, key="eval")`` reads. The method, the teacher and the averages
    stay out; give ``module.averaged_network()`` to save averaged weights.

    Args:
        network: A network of segmentation-models-pytorch, in a :class:`kdseg.networks.SegmentationNetwork` or not.
        directory: The folder; what it holds of such files is replaced.
        mean: Per channel, subtracted from pixels scaled to [0, 1].
        std: Per channel, divides what is left.

    Raises:
        InputError: a network of another kind, which the library could not make again.
    """
    model: Any = network.model if isinstance(network, SegmentationNetwork) else network
    if not hasattr(model, "save_pretrained"):
        raise InputError(
            f"{type(model).__name__} is not segmentation-models-pytorch's, which could not load it; save its state_dict"
        )
    model.save_pretrained(directory)
    normalization(mean, std).save_pretrained(directory, key="eval")


def save_run(run: str | Path, directory: str | Path, weights: Weights = "auto") -> None:
    """The same of a finished run.

    Args:
        run: The run's folder.
        directory: As in :func:`save_stock`.
        weights: Its last weights, the averaged ones, or with ``auto`` the averaged ones if it has any.

    Raises:
        InputError: not a finished segmentation run's folder, or no such weights in it.
    """
    folder = Run(run)
    folder.check_finished(f"run={run}")
    network, settings = load_network(folder, weights)
    save_stock(network, directory, *normalization_of(folder, settings))
