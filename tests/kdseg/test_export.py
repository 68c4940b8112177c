"""Plain segmentation-models-pytorch takes what we write, in a process that cannot import this package."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from common.averaging import WAKD
from common.errors import InputError
from common.runs.folder import Run
from common.runs.weights import load_weights, weights_path
from kdseg import SegmentationModule, create_network
from kdseg.export import save_run, save_stock
from kdseg.restore import load_network
from kdseg.segmentation_network import SegmentationNetwork
from kdseg.train import main as train

ALONE = """
import os, sys
for name in ("common", "kdrl", "kdseg"):
    sys.modules[name] = None
os.environ["HF_HUB_OFFLINE"] = os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
import albumentations, numpy as np, torch
import segmentation_models_pytorch as smp
image, *folders = sys.argv[1:]
for folder in folders:
    network = smp.from_pretrained(folder).eval()
    normalize = albumentations.Compose.from_pretrained(folder, key="eval")
    pixels = normalize(image=np.load(image))["image"].transpose(2, 0, 1)
    with torch.no_grad():
        answer = network(torch.as_tensor(np.ascontiguousarray(pixels, dtype=np.float32))[None])
    np.save(folder + "/answer.npy", answer.numpy())
"""


@torch.no_grad()
def logits(network: nn.Module, image: np.ndarray, mean: Any, std: Any) -> np.ndarray:
    scaled = (image.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    answer: Tensor = network.eval()(torch.as_tensor(scaled.transpose(2, 0, 1).copy())[None])
    return answer.numpy()


def elsewhere(folders: Sequence[Path], image: np.ndarray, workplace: Path) -> list[np.ndarray]:
    """What the network of each folder answers, in one process."""
    np.save(workplace / "image.npy", image)
    command = [sys.executable, "-c", ALONE, workplace / "image.npy", *folders]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=workplace, check=False)
    assert done.returncode == 0, done.stderr
    return [np.load(folder / "answer.npy") for folder in folders]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def test_networks_and_runs_are_plain_smp_elsewhere(
    call: Callable[..., Any], tiny: list[str], image: np.ndarray, tmp_path: Path
) -> None:
    options: dict[str, dict[str, Any]] = {
        "unet": {"decoder_channels": [16, 8, 8], "encoder_depth": 3},
        "fpn": {},
        "segformer": {},
    }
    networks = {arch: create_network(arch, classes=3, **given) for arch, given in options.items()}
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)
    expected = {}
    for arch, network in networks.items():
        save_stock(SegmentationModule(network, num_classes=3).network, tmp_path / arch, mean, std)
        expected[arch] = logits(network, image, mean, std)
    run = tmp_path / "run"
    arguments = ["averaging=wakd", "+data.mean=[0.5,0.5,0.5]", "+data.std=[0.25,0.25,0.25]", f"run_dir={run}"]
    assert call(train, *tiny, *arguments).status == 0
    for weights in ("last", "averaged"):
        save_run(run, tmp_path / weights, weights)
        expected[weights] = logits(load_network(Run(run), weights)[0], image, [0.5] * 3, [0.25] * 3)
    answers = elsewhere([tmp_path / name for name in expected], image, tmp_path)
    for name, answer in zip(expected, answers, strict=True):
        np.testing.assert_allclose(answer, expected[name], rtol=1e-4, atol=1e-4, err_msg=name)
    # The file itself has the names that the library's own network has.
    plain: Any = smp.from_pretrained(str(tmp_path / "last"))
    assert plain.load_state_dict(load_file(run / "checkpoints" / "last.safetensors")).missing_keys == []


def test_weights_of_earlier_versions_load(tmp_path: Path) -> None:
    network, run = SegmentationNetwork(smp.Unet("resnet18", encoder_weights=None)), Run(tmp_path)
    weights_path(run, "last").parent.mkdir()
    state = network.state_dict()
    save_file({f"model.{key}": tensor.clone() for key, tensor in state.items()}, weights_path(run, "last"))
    other = SegmentationNetwork(smp.Unet("resnet18", encoder_weights=None))
    assert any(not torch.equal(tensor, state[key]) for key, tensor in other.state_dict().items())
    load_weights(other, run, "last")
    for key, tensor in other.state_dict().items():
        assert torch.equal(tensor, state[key])


def test_the_names_survive_being_part_of_something(tmp_path: Path) -> None:
    """In a module, in an average, and where the model has names that begin as ours does."""
    module = SegmentationModule(create_network(classes=2), num_classes=2, averaging=WAKD(start=0))
    state = module.state_dict()
    assert "network.segmentation_head.0.weight" in state
    assert not any(".model." in key.replace("encoder.model.", "") for key in state if key.startswith("network"))
    other = SegmentationModule(create_network(classes=2), num_classes=2, averaging=WAKD(start=0))
    other.load_state_dict(state)
    torch.testing.assert_close(dict(other.network.named_parameters()), dict(module.network.named_parameters()))

    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = nn.Conv2d(3, 4, 1)
            self.segmentation_head = nn.Conv2d(4, 2, 1)

    nested = SegmentationNetwork(Nested())
    assert set(nested.state_dict()) == set(Nested().state_dict())
    SegmentationNetwork(Nested()).load_state_dict(nested.state_dict())


def test_a_network_of_another_kind_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1))
    with pytest.raises(InputError, match="Sequential is not segmentation-models-pytorch's"):
        save_stock(network, tmp_path / "stock")
    assert not (tmp_path / "stock").exists()
