"""Classes drawn over an image."""

import numpy as np
from numpy.typing import NDArray

_OPACITY = 0.5


def overlay(image: NDArray[np.uint8], mask: NDArray[np.uint8], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image ``uint8 [H, W, 3]`` with its classes ``uint8 [H, W]`` over it; pixels of no class stay as they are."""
    shown, known = image.copy(), mask < len(colours)
    shown[known] = ((1 - _OPACITY) * image[known] + _OPACITY * colours[mask[known]]).astype(np.uint8)
    return shown
