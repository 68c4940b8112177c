"""The nineteen standard image corruptions at five severities.

Hendrycks, Dietterich: Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, ICLR 2019
(arXiv 1903.12261): fifteen for the benchmark and four that are kept for validation. The strengths are those that the
authors publish: of ImageNet-C for images whose shorter side has 128 pixels or more, of Tiny-ImageNet-C (64 pixels) for
smaller ones. What is drawn depends on the seed alone, so that a batch's composition changes nothing.

Ours: the texture of ``frost`` is generated, where the authors blend photographs; ``elastic_transform`` moves the mask
along with the image.
"""

import functools
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError, choice
from common.evaluation.corruptions import blur, digital, noise, weather
from common.evaluation.corruptions.elastic import elastic_transform
from common.evaluation.corruptions.strengths import SMALL, STRENGTHS

Floats = NDArray[np.float32]
Corruption = Callable[[Floats, Any, np.random.Generator], Floats]

SEVERITIES = (1, 2, 3, 4, 5)

CORRUPTIONS: Mapping[str, Corruption | None] = {
    "gaussian_noise": noise.gaussian,
    "shot_noise": noise.shot,
    "impulse_noise": noise.impulse,
    "defocus_blur": blur.defocus,
    "glass_blur": blur.glass,
    "motion_blur": blur.motion,
    "zoom_blur": blur.zoom,
    "snow": weather.snow,
    "frost": weather.frost,
    "fog": weather.fog,
    "brightness": digital.brightness,
    "contrast": digital.contrast,
    "elastic_transform": None,  # which moves masks too
    "pixelate": digital.pixelate,
    "jpeg_compression": digital.jpeg,
    "speckle_noise": noise.speckle,
    "gaussian_blur": blur.gaussian,
    "spatter": weather.spatter,
    "saturate": digital.saturate,
}
"""The first fifteen are the benchmark's."""
BENCHMARK = tuple(CORRUPTIONS)[:15]


def corrupt(
    image: NDArray[np.uint8], name: str, severity: int, seed: Sequence[int], mask: NDArray[Any] | None = None
) -> tuple[NDArray[np.uint8], NDArray[Any] | None]:
    """Corrupt one image.

    Args:
        image: ``uint8 [H, W, 3]``; left as it is.
        name: Of :data:`CORRUPTIONS`.
        severity: 1 to 5.
        seed: Numbers that stand for the image.
        mask: ``[H, W]``, class indices.

    Returns:
        The image, and the mask of the corrupted image: another one where pixels have moved.

    Raises:
        InputError: an unknown corruption or severity.
    """
    change = CORRUPTIONS[choice(name, CORRUPTIONS, "corruption")]
    if severity not in SEVERITIES:
        raise InputError(f"severity={severity} is not known; use one of: {', '.join(map(str, SEVERITIES))}")
    strength = STRENGTHS[name][min(image.shape[:2]) < SMALL][severity - 1]
    rng = np.random.default_rng([*seed, severity, _number(name)])
    scaled = image.astype(np.float32) / np.float32(255)
    if change is None:
        changed, mask = elastic_transform(scaled, strength, rng, mask)
    else:
        changed = change(scaled, strength, rng)
    return (changed.clip(0, 1) * 255).astype(np.uint8), mask


@functools.cache
def _number(name: str) -> int:
    return zlib.crc32(name.encode())
