"""Real images, and arguments that make training short."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.nuclei import SMALL_NETWORK

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei"


@pytest.fixture(scope="session")
def nuclei() -> Path:
    return NUCLEI


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    """Four batches of four real images, one of each domain, with a band of ignored pixels.

    Read without the package's own loaders, whose changes must not show as changes of the training step.
    """
    domains = sorted(path for path in NUCLEI.iterdir() if path.is_dir())
    return [_batch(domains, number) for number in range(4)]


def _batch(domains: list[Path], number: int, side: int = 32) -> dict[str, Tensor]:
    images, masks = [], []
    for domain in domains:
        path = sorted((domain / "images").iterdir())[number]
        colours = np.asarray(Image.open(path).convert("RGB"))[:side, :side]
        images.append(torch.from_numpy(colours.copy()).permute(2, 0, 1) / 127.5 - 1)
        masks.append(torch.from_numpy(np.asarray(Image.open(domain / "masks" / path.name))[:side, :side].copy()).long())
    mask = torch.stack(masks)
    mask[:, :, : 3 + number] = 255
    return {"image": torch.stack(images), "mask": mask, "index": torch.arange(4 * number, 4 * number + 4)}


@pytest.fixture(scope="session")
def tiny(small_nuclei: Path) -> list[str]:
    """Arguments of ``kdseg-train`` that make it a matter of seconds; ``run_dir`` is left to the test."""
    return [
        "data=nuclei",
        f"data.root={small_nuclei}",
        "data.target=fluorescence",
        "data.batch_size=4",
        "data.crop_size=32",
        *SMALL_NETWORK,
        "trainer.max_steps=6",
        "trainer.accelerator=cpu",
        "evaluation.every=3",
    ]
