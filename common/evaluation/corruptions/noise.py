"""Noise. Images are ``float32 [H, W, 3]`` in [0, 1], here and in the files beside this one; results may leave it."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def gaussian(image: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """Of one standard deviation everywhere."""
    return image + np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)


def shot(image: Floats, photons: float, rng: np.random.Generator) -> Floats:
    """Counting at most so many photons."""
    return (rng.poisson(image * photons) / photons).astype(np.float32)


def impulse(image: Floats, share: float, rng: np.random.Generator) -> Floats:
    """A share of the values becomes 0 or 1, a channel on its own."""
    drawn = rng.random(image.shape, dtype=np.float32)
    return np.where(drawn < share, (drawn < share / 2).astype(np.float32), image)


def speckle(image: Floats, deviation: float, rng: np.random.Generator) -> Floats:
    """In proportion to the value."""
    return image + image * np.float32(deviation) * rng.standard_normal(image.shape, dtype=np.float32)
