"""Classes drawn over an image."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.report.theme import class_colours
from kdseg.domains.dataset import SegmentationDataset
from kdseg.domains.images import to_be_seen

_OPACITY = 0.5
_SIDE = 512


def overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image ``uint8 [H, W, bands]`` with its classes ``uint8 [H, W]`` over it: ``uint8 [H, W, 3]``.

    Pixels of no class stay as they are.
    """
    shown, known = to_be_seen(image).copy(), mask < len(colours)
    shown[known] = ((1 - _OPACITY) * shown[known] + _OPACITY * colours[mask[known]]).astype(np.uint8)
    return shown


@torch.no_grad()
def example(network: nn.Module, dataset: SegmentationDataset, num_classes: int, index: int = 0) -> NDArray[np.uint8]:
    """An image, its labels over it, and a network's prediction over it, side by side: ``uint8 [H, 3 · W, 3]``.

    Of a large image, every so many pixels.
    """
    sample, colours = dataset.sample(index), class_colours(num_classes)
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    predicted = network(dataset[index]["image"][None].to(device)).argmax(dim=1)[0].byte().cpu().numpy()
    network.train(was_training)
    panels = [
        to_be_seen(sample.image),
        overlay(sample.image, sample.mask, colours),
        overlay(sample.image, predicted, colours),
    ]
    step = -(-max(sample.mask.shape) // _SIDE)
    return np.concatenate([panel[::step, ::step] for panel in panels], axis=1)
