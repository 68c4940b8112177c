"""Networks from runs' folders: to evaluate, and as teachers."""

from collections.abc import Sequence

import torch
from torch import nn

from common.arguments import check_type
from common.configuration import read_settings
from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import Weights
from common.runs.teachers import Shares, load_teachers
from common.runs.weights import choose_weights, load_weights
from common.teacher import Combination, Teacher
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD, Loading
from kdseg.networks import create_network
from kdseg.segmentation_network import Renormalized, SegmentationNetwork
from kdseg.settings import NetworkSettings, TrainSettings


def build_network(
    config: NetworkSettings, classes: int, pretrained: bool = True, in_channels: int = 3
) -> SegmentationNetwork:
    """The network that the config group ``network`` describes.

    Args:
        config: The group.
        classes: Number of classes.
        pretrained: Whether to fetch the encoder's weights, if the group names some.
        in_channels: Bands of the images.

    Raises:
        InputError: a network that the library does not know.
    """
    for name in ("classes", "in_channels"):
        if name in config.options:
            raise InputError(f"network.{name} cannot be set here; remove it")
    weights = config.encoder_weights if pretrained else None
    model = create_network(config.arch, config.encoder_name, weights, classes, in_channels, **config.options)
    return SegmentationNetwork(model)


def load_network(run: Run, weights: Weights = "auto") -> tuple[SegmentationNetwork, TrainSettings]:
    """The network a run trained, in eval mode on the CPU, and the settings it was trained with.

    Args:
        run: The run; whether it is finished does not matter here.
        weights: Its last weights, the averaged ones, or with ``auto`` the averaged ones if it has any.

    Raises:
        InputError: not a segmentation run's folder, or no such checkpoint in it.
    """
    settings = read_settings(run.config_path, TrainSettings, task="seg")
    if settings.classes is None:
        raise InputError(f"{run.config_path} names no classes; give a run that kdseg-train wrote")
    # The weights are in the run; nothing needs to be downloaded for them.
    network = build_network(settings.network, len(settings.classes), False, settings.in_channels)
    load_weights(network, run, choose_weights(run, weights))
    return network.eval(), settings


def load_teacher(
    paths: Sequence[str],
    data: SegmentationData,
    weights: Weights = "auto",
    combine: Combination = "probability",
    unfinished: bool = False,
    shares: Shares = "equal",
) -> tuple[Teacher, list[str]]:
    """One teacher of the networks of finished runs, and what a user should be warned of.

    A network that was trained under another normalisation sees the student's images under its own.

    Args:
        paths: The runs' folders.
        data: The student's data.
        weights: As in :func:`load_network`.
        combine: What of several teachers is averaged.
        unfinished: Whether runs that are not finished will do.
        shares: What each of several weighs; see :func:`common.runs.teachers.shares_by_validation`.

    Raises:
        InputError: a folder that is no finished segmentation run, or a network of other classes.
    """
    warnings: list[str] = []

    def load(run: Run) -> nn.Module:
        network, settings = load_network(run, weights)
        _check_fits(run, settings, data)
        ours, theirs = (data.mean, data.std), trained_normalization(run, settings)
        sources = check_type(settings.data.get("sources"), list[str] | None, f"{run.config_path}: data.sources")
        if data.target_name in (sources or []):
            warnings.append(f"teacher={run.path} was trained on the target domain {data.target_name}")
        same = all(torch.allclose(torch.tensor(a), torch.tensor(b)) for a, b in zip(ours, theirs, strict=True))
        return network if same else Renormalized(network, ours, theirs)

    return load_teachers(paths, load, combine, unfinished, weights, shares), warnings


def _check_fits(run: Run, settings: TrainSettings, data: SegmentationData) -> None:
    assert settings.classes is not None
    if settings.in_channels != data.in_channels:
        raise InputError(
            f"teacher={run.path} sees images of {settings.in_channels} bands, the data have {data.in_channels}; give a"
            " teacher of the same bands"
        )
    if settings.classes != data.class_names:
        raise InputError(
            f"teacher={run.path} has {len(settings.classes)} classes ({', '.join(settings.classes)}), "
            f"the data {data.num_classes} ({', '.join(data.class_names)}); give a teacher of the same classes"
        )


def trained_normalization(run: Run, settings: TrainSettings) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation a channel that a run was trained with."""
    usual = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    given = {
        name: check_type(settings.data.get(name, value), tuple[float, ...], f"{run.config_path}: data.{name}")
        for name, value in usual.items()
    }
    loading = Loading(mean=given["mean"], std=given["std"]).for_bands(settings.in_channels)
    return tuple(loading.mean), tuple(loading.std)
