"""The nuclei, smaller, and a network that is."""

import shutil
from pathlib import Path

from PIL import Image

NUCLEI = Path(__file__).parent / "data" / "nuclei"
SMALL_NETWORK = ("network.encoder_name=tu-test_resnet", "network.decoder_channels=[8,8,8]")
"""A ResNet of few weights, which timm has for tests."""


def corners_of_nuclei(root: Path, side: int = 48) -> Path:
    """The corners of the nuclei, so many pixels wide, as a folder of domains: it is the training that matters there."""
    for path in sorted(NUCLEI.glob("*/*/*.png")):
        copy = root / path.relative_to(NUCLEI)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.open(path).crop((0, 0, side, side)).save(copy)
    shutil.copy(NUCLEI / "metadata.csv", root)
    return root
