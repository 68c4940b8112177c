"""Colour and compression."""

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

Floats = NDArray[np.float32]


def brightness(image: Floats, added: float, rng: np.random.Generator) -> Floats:
    """More of V in hue, saturation and value."""
    return _in_hsv(image, 2, 1.0, added)


def saturate(image: Floats, strength: tuple[float, float], rng: np.random.Generator) -> Floats:
    """Another saturation."""
    return _in_hsv(image, 1, *strength)


def contrast(image: Floats, share: float, rng: np.random.Generator) -> Floats:
    """Nearer to each channel's mean."""
    mean = image.mean(axis=(0, 1), keepdims=True)
    return np.asarray((image - mean) * np.float32(share) + mean, dtype=np.float32)


def pixelate(image: Floats, share: float, rng: np.random.Generator) -> Floats:
    """Fewer pixels, enlarged again."""
    height, width = image.shape[:2]
    size = max(1, int(width * share)), max(1, int(height * share))
    pixels = PIL.Image.fromarray((image * 255).astype(np.uint8))
    box = PIL.Image.Resampling.BOX
    return np.asarray(pixels.resize(size, box).resize((width, height), box), dtype=np.float32) / np.float32(255)


def jpeg(image: Floats, quality: int, rng: np.random.Generator) -> Floats:
    """What JPEG leaves of it."""
    pixels = (image * 255).astype(np.uint8)[..., ::-1]
    _, encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert decoded is not None
    return np.divide(decoded[..., ::-1], np.float32(255), dtype=np.float32)


def _in_hsv(image: Floats, channel: int, factor: float, added: float) -> Floats:
    changed = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
    changed[..., channel] = (changed[..., channel] * factor + added).clip(0, 1)
    result: Floats = cv2.cvtColor(changed, cv2.COLOR_HSV2RGB)  # type: ignore[assignment]
    return result
