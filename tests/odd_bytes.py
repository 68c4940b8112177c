"""Contents that a file should not have: changed, cut, or something that runs as it is unpickled."""

from pathlib import Path
from typing import Any

import numpy as np


class Harm:
    """Unpickled, it touches a file, of the working directory unless a folder is given."""

    def __init__(self, folder: Path = Path()) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.folder / "harm",)


def cut(content: bytes, rng: np.random.Generator) -> bytes:
    """Its beginning."""
    return content[: rng.integers(len(content))]


def flipped(content: bytes, rng: np.random.Generator) -> bytes:
    """With up to eight other bits."""
    changed = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        changed[rng.integers(len(changed))] ^= 1 << int(rng.integers(8))
    return bytes(changed)
