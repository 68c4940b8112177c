"""A segmentation network as an ONNX file: bytes in, logits out, any size."""

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import InputError
from common.evaluation.segmentation import mean_iou
from common.onnx import Session, write_int8, write_onnx
from kdseg.configured import make_data
from kdseg.measure import evenly
from kdseg.metrics import batch_confusion
from kdseg.segmentation_network import Renormalized, SegmentationNetwork
from kdseg.settings import TrainSettings

_MOST = 8


class _Padded(nn.Module):
    """A network's model, whose inputs are padded as the network does, in a way that can be traced for any size."""

    def __init__(self, network: SegmentationNetwork) -> None:
        super().__init__()
        self.model = copy.deepcopy(network.model).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        # What catches features would be part of the file.
        self.model.segmentation_head._forward_pre_hooks.clear()  # type: ignore[union-attr,operator]
        self.stride = network.stride

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        if self.stride > 1:
            images = F.pad(images, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        answer = self.model(images)
        logits: Tensor = answer[0] if isinstance(answer, tuple) else answer
        return logits[..., :height, :width]


class OfBytes(nn.Module):
    """A network of images as files hold them.

    Args:
        network: Of normalised images.
        mean: Its normalisation a channel, of pixels in [0, 1].
        std: As ``mean``.
    """

    def __init__(self, network: SegmentationNetwork, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        bands = network.in_channels
        self.network = Renormalized(_Padded(network), ((0.0,) * bands, (1 / 255,) * bands), (mean, std))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``[B, C, H, W]`` of images ``uint8 [B, bands, H, W]``, RGB."""
        logits: Tensor = self.network(images.float())
        return logits


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a file is tried on.

    Attributes:
        images: ``uint8 [B, bands, H, W]`` each.
        masks: ``int64 [B, H, W]`` each; none where the images are noise.
        what: What the images are, for people.
    """

    images: Sequence[Tensor]
    masks: Sequence[Tensor]
    what: str


def trial(trained: TrainSettings) -> Trial:
    """A few validation images of a run's source domains; noise where its data are not here."""
    try:
        data = make_data(trained.data)
    except InputError:
        noise = np.random.default_rng(0).integers(0, 256, (2, trained.in_channels, 96, 128), dtype=np.uint8)
        return Trial([torch.as_tensor(noise), torch.as_tensor(noise[:1, :, :80, :72].copy())], [], "noise")
    parts = data.validation_parts or data.test_parts
    share = max(1, _MOST // len(parts))
    samples = [part.dataset.sample(one) for part in parts for one in evenly(len(part.dataset), share)]
    images = [_bytes(sample.image) for sample in samples]
    # Of one size, a batch: what is traced with one image is for one.
    images[0] = images[0].repeat(2, 1, 1, 1)
    masks = [torch.as_tensor(sample.mask.astype(np.int64))[None] for sample in samples]
    masks[0] = masks[0].repeat(2, 1, 1)
    kind = "validation" if data.validation_parts else "test"
    return Trial(images, masks, f"{len(samples)} {kind} images")


def write(network: SegmentationNetwork, normalization: Any, path: Path, tried: Trial) -> str:
    """Write the file and say how close it is."""
    away = write_onnx(OfBytes(network, *normalization).eval(), tried.images, path, ("images", ["logits"]), (0, 2, 3))
    return f"logits within {away:.1e} of the network's on {tried.what}"


def write_small(source: Path, path: Path, tried: Trial) -> str:
    """Write the file of 8 bits and say what it costs."""
    write_int8(source, path, [image[:1] for image in tried.images])
    if not tried.masks:
        return "8 bits; its score could not be measured without the run's images"
    before, after = (_miou(Session(one), tried) for one in (source, path))
    return f"8 bits, for CPUs; mIoU {100 * after:.1f} where the other has {100 * before:.1f}, on {tried.what}"


def _miou(session: Session, tried: Trial) -> float:
    confusion: NDArray[Any] = sum(  # type: ignore[assignment]
        batch_confusion(logits := torch.as_tensor(session(images)[0]), masks, logits.shape[1]).sum(0).numpy()
        for images, masks in zip(tried.images, tried.masks, strict=True)
    )
    return float(mean_iou(confusion))


def _bytes(image: NDArray[np.uint8]) -> Tensor:
    return torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
