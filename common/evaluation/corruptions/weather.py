"""Weather, and what splashes onto a lens."""

import cv2
import numpy as np
from numpy.typing import NDArray

from common.evaluation.corruptions.blur import enlarged, moved, smoothed

Floats = NDArray[np.float32]

_WATER = np.array([175, 238, 238], dtype=np.float32) / 255
_MUD = np.array([63, 42, 20], dtype=np.float32) / 255
_ICE = np.array([0.85, 0.95, 1.0], dtype=np.float32)


def fog(image: Floats, strength: tuple[float, float], rng: np.random.Generator) -> Floats:
    """A cloud of fractal noise, and the whole dimmed to the brightness there was."""
    density, decay = strength
    brightest = image.max()
    foggy = image + np.float32(density) * fractal(image.shape[:2], decay, rng)[..., None]
    return np.asarray(foggy * brightest / (brightest + np.float32(density)), dtype=np.float32)


def frost(image: Floats, strength: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Ice over the image; crystals are streaks of noise in a few directions, denser where a fractal is high (ours)."""
    ice = np.zeros(image.shape[:2], dtype=np.float32)
    reach = max(2, min(image.shape[:2]) // 16)
    for angle in rng.uniform(0, 180, size=4):
        grains = (rng.random(ice.shape, dtype=np.float32) > 0.97).astype(np.float32)
        ice = np.maximum(ice, moved(moved(grains, reach, reach, angle), reach, reach, angle + 180))
    ice /= max(float(ice.max()), 1e-6)
    ice = 0.25 + 0.6 * np.sqrt(ice) + 0.45 * fractal(ice.shape, 2.0, rng)
    share, added = strength
    return np.float32(share) * image + np.float32(added) * ice[..., None] * _ICE


def snow(image: Floats, strength: tuple[float, ...], rng: np.random.Generator) -> Floats:
    """Falling flakes, and a paler scene."""
    mean, deviation, size, least, radius, blur, share = strength
    flakes = rng.normal(mean, deviation, size=image.shape[:2]).astype(np.float32)
    flakes = enlarged(flakes, size)
    flakes[flakes < least] = 0
    flakes = moved(flakes.clip(0, 1), radius, blur, rng.uniform(-135, -45))
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    pale = np.float32(share) * image + np.float32(1 - share) * np.maximum(image, grey * 1.5 + 0.5)
    return np.asarray(pale + flakes[..., None] + flakes[::-1, ::-1, None], dtype=np.float32)


def spatter(image: Floats, strength: tuple[float, ...], rng: np.random.Generator) -> Floats:
    """Drops of water, or mud at high severities."""
    mean, deviation, smoothness, least, amount, is_mud = strength
    liquid: Floats = smoothed(rng.normal(mean, deviation, size=image.shape[:2]).astype(np.float32), smoothness)
    if is_mud:
        cover = smoothed((liquid > least).astype(np.float32), amount)
        cover[cover < 0.8] = 0
        return np.asarray(image * (1 - cover[..., None]) + _MUD * cover[..., None], dtype=np.float32)
    liquid[liquid < least] = 0
    # The relief of drops: how far from their edges, lit from one side.
    edges = 255 - cv2.Canny((liquid.clip(0, 1) * 255).astype(np.uint8), 50, 150)
    height = cv2.distanceTransform(edges, cv2.DIST_L2, 5).clip(0, 20)
    height = cv2.equalizeHist(cv2.blur(height, (3, 3)).astype(np.uint8))
    lit = cv2.filter2D(height, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=np.float32))
    shine = liquid * cv2.blur(lit, (3, 3)).astype(np.float32)
    shine *= np.float32(amount) / max(float(shine.max()), 1e-6)
    return np.asarray(image + shine[..., None] * _WATER, dtype=np.float32)


def fractal(size: tuple[int, ...], decay: float, rng: np.random.Generator) -> Floats:
    """Noise of all scales ``[H, W]`` in [0, 1]: corners, then centres, then edges, ever finer and weaker.

    Diamond-square on a torus, as the authors' ``plasma_fractal``; the larger ``decay``, the smoother.
    """
    side = 1 << (max(size) - 1).bit_length()
    grid = np.zeros((1, 1))
    amplitude = 100.0
    while len(grid) < side:
        count, wobble = len(grid), amplitude**2
        centres = _mean_of_corners(grid) + wobble * rng.uniform(-1, 1, size=(count, count))
        fine = np.zeros((2 * count, 2 * count))
        fine[::2, ::2], fine[1::2, 1::2] = grid, centres
        beside = grid + np.roll(grid, -1, 1) + centres + np.roll(centres, 1, 0)
        below = grid + np.roll(grid, -1, 0) + centres + np.roll(centres, 1, 1)
        fine[::2, 1::2] = beside / 4 + wobble * rng.uniform(-1, 1, size=(count, count))
        fine[1::2, ::2] = below / 4 + wobble * rng.uniform(-1, 1, size=(count, count))
        grid, amplitude = fine, amplitude / decay
    grid = grid - grid.min()
    grid = grid / max(float(grid.max()), 1e-12)
    return np.asarray(grid[: size[0], : size[1]], dtype=np.float32)


def _mean_of_corners(grid: NDArray[np.float64]) -> NDArray[np.float64]:
    below = np.roll(grid, -1, 0)
    return (grid + below + np.roll(grid, -1, 1) + np.roll(below, -1, 1)) / 4
