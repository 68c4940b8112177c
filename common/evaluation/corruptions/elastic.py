"""The corruption that moves pixels, and their labels with them."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from common.evaluation.corruptions.blur import smoothed

Floats = NDArray[np.float32]


def elastic_transform(
    image: Floats, strength: tuple[float, float, float], rng: np.random.Generator, mask: NDArray[Any] | None
) -> tuple[Floats, NDArray[Any] | None]:
    """A shear of the whole and a smooth field of shifts.

    Args:
        image: ``float32 [H, W, 3]``.
        strength: Of the field, its smoothness and the jitter of three points of the middle, in sides of the image.
        rng: Draws.
        mask: ``[H, W]``; each pixel takes the label of where it comes from.
    """
    side = max(image.shape[:2])
    field, smoothness, jitter = (part * side for part in strength)
    middle = np.array(image.shape[1::-1], dtype=np.float32) // 2
    third = min(image.shape[:2]) // 3
    points = np.array([middle + third, [middle[0] + third, middle[1] - third], middle - third], dtype=np.float32)
    shear = cv2.getAffineTransform(points, points + rng.uniform(-jitter, jitter, size=(3, 2)).astype(np.float32))
    # Where each pixel comes from: first the shifts, of an image that is sheared already.
    columns, rows = np.meshgrid(*(np.arange(size, dtype=np.float32) for size in image.shape[1::-1]))
    if field:
        drawn = rng.uniform(-1, 1, size=(2, *rows.shape)).astype(np.float32)
        columns, rows = (
            place + np.float32(field) * smoothed(noise, smoothness)
            for place, noise in zip((columns, rows), drawn, strict=True)
        )
    back = cv2.invertAffineTransform(shear)
    from_columns, from_rows = (
        (row[0] * columns + row[1] * rows + row[2]).astype(np.float32) for row in np.asarray(back)
    )

    def taken(array: NDArray[Any], interpolation: int) -> NDArray[Any]:
        return cv2.remap(array, from_columns, from_rows, interpolation, borderMode=cv2.BORDER_REFLECT_101)

    moved = taken(image, cv2.INTER_LINEAR)
    return moved, None if mask is None else taken(np.ascontiguousarray(mask), cv2.INTER_NEAREST)
