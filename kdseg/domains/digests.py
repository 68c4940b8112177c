"""Short texts that stand for pixels, to find the same image again under another name or in another place."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Random odd numbers. Digests are kept on disk: these numbers must never change.
_WEIGHTS = np.frombuffer(hashlib.shake_128(b"kdshift").digest(8 * 256), dtype="<u8") | np.uint64(1)


class Digest(NamedTuple):
    """What stands for an image and for its mask: 16 hexadecimal digits each, equal for equal pixels."""

    image: str
    mask: str


def digest_of(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> Digest:
    """The digests of an image (``uint8 [H, W, bands]`` or grey, ``[H, W]``) and its mask (``uint8 [H, W]``).

    A grey image has one digest, whether it is stored with one channel or with three equal ones.
    """
    if (
        image.ndim == 3 and image.shape[2] == 3 and _is_grey(image[:1]) and _is_grey(image)
    ):  # the first row tells most colour images
        image = image[:, :, 0]
    return Digest(_digest(image), _digest(mask))


def _is_grey(image: NDArray[np.uint8]) -> bool:
    return bool((image == image[:, :, :1]).all())


def _digest(pixels: NDArray[np.uint8]) -> str:
    # A cryptographic hash of all pixels takes up to a seventh of the time of decoding them. One of a random sum of each
    # 2 KiB takes a fortieth, and is as good where nobody forges images: no change of a single word can keep a sum.
    flat = np.ascontiguousarray(pixels).reshape(-1)
    whole = flat.size // _WEIGHTS.nbytes * _WEIGHTS.nbytes
    digest = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=8)
    digest.update(flat[:whole].view("<u8").reshape(-1, _WEIGHTS.size) @ _WEIGHTS)
    digest.update(flat[whole:].data)
    return digest.hexdigest()
