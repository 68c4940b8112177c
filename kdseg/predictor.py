"""Networks of runs for images as they are: ``Predictor.of_runs(["runs/a"])(image)``."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.device import pick_device
from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import Weights
from common.teacher import Teacher
from kdseg.domains.images import ValueRange
from kdseg.restore import load_network, trained_normalization
from kdseg.segmentation_network import Renormalized
from kdseg.tiles import Tiling, flipped, predict_tiles


class Predictor:
    """What networks say of images, each under its own normalisation; several are their mixture.

    Args:
        networks: From images ``[B, bands, H, W]`` in [0, 1] to logits ``[B, C, H, W]``.
        class_names: Name of each class.
        mirrors: Dimensions of mirror images that are asked about too, such as ``[[-1]]`` for left and right.
        tiling: How large images are cut.
        device: Where to compute.

    Attributes:
        value_range: What was black and white in training, where files have more than 8 bits.
        bands: Of images.
    """

    def __init__(
        self,
        networks: Sequence[nn.Module],
        class_names: Sequence[str],
        mirrors: Sequence[Sequence[int]] = (),
        tiling: Tiling | None = None,
        device: str = "auto",
    ) -> None:
        self.class_names = list(class_names)
        self.value_range: ValueRange | None = None
        self.bands = 3
        self.tiling = tiling or Tiling()
        self._device = pick_device(device)
        self._teacher = Teacher(networks).to(self._device)
        self._answer = flipped(self._probabilities, mirrors)

    @classmethod
    def of_runs(
        cls,
        runs: Sequence[str | Path],
        weights: Weights = "auto",
        unfinished: bool = False,
        flips: bool = False,
        tiling: Tiling | None = None,
        device: str = "auto",
    ) -> "Predictor":
        """A predictor of finished runs.

        Args:
            runs: Folders; several are an ensemble.
            weights: Which of their weights; see :func:`kdseg.restore.load_network`.
            unfinished: Whether runs that are not finished will do.
            flips: Whether mirror images are asked about too; up and down only where no run has ``data.upright``.
            tiling: How large images are cut.
            device: Where to compute.

        Raises:
            InputError: a folder that is no finished segmentation run, or runs of different classes.
        """
        networks: list[nn.Module] = []
        settings = []
        for path in runs:
            run = Run(path)
            run.check_finished(f"run={path}", unfinished)
            network, trained = load_network(run, weights)
            if trained.channels_last:
                network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            as_they_are = (0.0,) * trained.in_channels, (1.0,) * trained.in_channels
            networks.append(Renormalized(network, as_they_are, trained_normalization(run, trained)))
            settings.append(trained)
        names = settings[0].classes
        assert names is not None
        for path, trained in zip(runs, settings, strict=True):
            if trained.classes != names:
                raise InputError(f"run={path} has the classes {trained.classes}, {runs[0]} {names}; give runs alike")
            if trained.in_channels != settings[0].in_channels:
                bands = f"{trained.in_channels} bands, {runs[0]} {settings[0].in_channels}"
                raise InputError(f"run={path} sees images of {bands}; give runs alike")
        upright = any(trained.data.get("upright") for trained in settings)
        mirrors: list[list[int]] = [] if not flips else [[-1]] if upright else [[-1], [-2], [-1, -2]]
        made = cls(networks, names, mirrors, tiling, device)
        made.bands = settings[0].in_channels
        made.value_range = settings[0].data.get("value_range")
        return made

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities ``float32 [C, H, W]`` of an image ``uint8 [H, W, bands]``, RGB.

        Raises:
            InputError: of bands or a size that a network cannot take.
        """
        if image.shape[2] != self.bands:
            raise InputError(f"the image has {image.shape[2]} bands, and the network was trained on {self.bands}")
        pixels = torch.as_tensor(image.copy()).permute(2, 0, 1).float() / 255
        try:
            return predict_tiles(self._answer, pixels, self.tiling).numpy()
        except (RuntimeError, AssertionError) as error:
            size = "x".join(str(side) for side in image.shape[:2])
            reason = " ".join(str(error).split())
            raise InputError(f"the network cannot take an image of {size} pixels ({reason})") from error

    def _probabilities(self, images: Tensor) -> Tensor:
        probabilities: Tensor = self._teacher(images.to(self._device)).float().softmax(dim=1)
        return probabilities
