"""Blur."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

REACH = 4
"""A Gaussian is cut at so many standard deviations."""


def smoothed(image: Floats, deviation: float) -> Floats:
    """Blurred by a Gaussian, the border repeated: ``[H, W]`` or ``[H, W, 3]``."""
    side = 2 * int(REACH * deviation + 0.5) + 1
    blurred: Floats = cv2.GaussianBlur(image, (side, side), deviation, borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return blurred


def moved(image: Floats, radius: float, deviation: float, angle: float) -> Floats:
    """Blurred along a line, from the pixel onwards with half a Gaussian: ``[H, W]`` or ``[H, W, 3]``."""
    reach = 2 * int(radius)
    steps = np.arange(reach + 1)
    weights = np.exp(-(steps**2) / (2 * deviation**2))
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1), dtype=np.float64)
    rows = reach + np.rint(steps * math.sin(math.radians(angle))).astype(int)
    columns = reach + np.rint(steps * math.cos(math.radians(angle))).astype(int)
    np.add.at(kernel, (rows, columns), weights / weights.sum())
    blurred: Floats = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REPLICATE)  # type: ignore[assignment]
    return blurred


def enlarged(image: Floats, factor: float) -> Floats:
    """The middle of an image, enlarged to the size of the whole: ``[H, W]`` or ``[H, W, 3]``."""
    height, width = image.shape[:2]
    size = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    part = image[top : top + size[0], left : left + size[1]]
    large = cv2.resize(part, (round(size[1] * factor), round(size[0] * factor)), interpolation=cv2.INTER_LINEAR)
    top, left = (large.shape[0] - height) // 2, (large.shape[1] - width) // 2
    cut: Floats = large[top : top + height, left : left + width]  # type: ignore[assignment]
    return cut


def gaussian(image: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """By a Gaussian."""
    return smoothed(image, deviation)


def defocus(image: Floats, strength: tuple[float, float], rng: np.random.Generator) -> Floats:
    """By a disc with a soft edge."""
    radius, softness = strength
    reach = max(8, math.ceil(radius))
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disc = (rows**2 + columns**2 <= radius**2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    disc = cv2.GaussianBlur(disc / disc.sum(), (side, side), softness)  # type: ignore[assignment]
    blurred: Floats = cv2.filter2D(image, -1, disc)  # type: ignore[assignment]
    return blurred


def glass(image: Floats, strength: tuple[float, int, int], rng: np.random.Generator) -> Floats:
    """Pixels take the place of near ones, between two blurs.

    The authors' loop is meant to swap two pixels; written on views of an array, it copies one over the other. The
    published images are those, and so are ours.
    """
    deviation, reach, times = strength
    blurred = smoothed(image, deviation)
    height, width = image.shape[:2]
    places = list(range(height * width))
    # One after the other, from the last on, so that a pixel can be carried far: a list is faster here than an array.
    inside = np.arange(height * width).reshape(height, width)[
        reach + 1 : height - reach + 1, reach + 1 : width - reach + 1
    ]
    order = inside.ravel()[::-1]
    for _ in range(times):
        down, right = rng.integers(-reach, reach, size=(2, len(order)))
        other = np.minimum(order + down * width + right, height * width - 1)
        for here, there in zip(order.tolist(), other.tolist(), strict=True):
            places[here] = places[there]
    mixed = blurred.reshape(-1, image.shape[2])[places].reshape(image.shape)
    return smoothed(mixed, deviation)


def motion(image: Floats, strength: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Along a line within 45 degrees of the horizontal."""
    return moved(image, *strength, rng.uniform(-45, 45))


def zoom(image: Floats, strength: tuple[float, float], rng: np.random.Generator) -> Floats:
    """The mean of an image and of ever larger ones."""
    largest, step = strength
    factors = 1 + step * np.arange(round((largest - 1) / step) + 1)
    whole = image + sum(enlarged(image, factor) for factor in factors)
    return np.asarray(whole / np.float32(len(factors) + 1), dtype=np.float32)
