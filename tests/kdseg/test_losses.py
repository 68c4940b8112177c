import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.losses import mean_over_valid
from common.teacher import Teacher
from common.terms import KD, KDDG
from kdseg import SegmentationModule
from kdseg.losses import TaskLoss
from kdseg.train import main as train
from tests.kdseg import test_module
from tests.kdseg.test_module import fit, unet

pytestmark = test_module.pytestmark

IGNORE = 255
LOSSES = {
    "cross_entropy": TaskLoss(),
    "weighted": TaskLoss(class_weights=[0.5, 2.0, 3.0]),
    "smoothed": TaskLoss(label_smoothing=0.2, class_weights=[0.5, 2.0, 3.0]),
    "focal": TaskLoss("focal", gamma=1.5),
    "dice": TaskLoss("dice_cross_entropy", dice=0.7),
}


@pytest.fixture
def pixels() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 3, 4, 5, generator=generator)
    masks = torch.randint(3, (2, 4, 5), generator=generator)
    masks[0, 0], masks[1, :, 0] = IGNORE, IGNORE
    return logits, masks


def reference(loss: TaskLoss, logits: Tensor, masks: Tensor) -> float:
    """The batch's loss, pixel by pixel in double precision."""
    weights = loss.class_weights or [1.0] * 3
    total = norm = 0.0
    for z, y in zip(logits.double().movedim(1, -1).reshape(-1, 3).numpy(), masks.reshape(-1).tolist(), strict=True):
        if y == IGNORE:
            continue
        log_p = z - z.max() - math.log(np.exp(z - z.max()).sum())
        uniform = sum(weight * one for weight, one in zip(weights, log_p, strict=True)) / 3
        cost = -(1 - loss.label_smoothing) * weights[y] * log_p[y] - loss.label_smoothing * uniform
        total += cost * ((1 - math.exp(log_p[y])) ** loss.gamma if loss.name == "focal" else 1.0)
        norm += weights[y]
    return total / norm


def batch_loss(loss: TaskLoss, logits: Tensor, masks: Tensor) -> Tensor:
    return mean_over_valid(loss.positions(logits, masks), masks != IGNORE)


def test_a_pixel_by_hand() -> None:
    # p = 1/4 of the label: cross-entropy log 4, focal with gamma 2 (3/4)² log 4.
    logits, masks = torch.tensor([0.0, math.log(3)]).view(1, 2, 1, 1), torch.zeros(1, 1, 1, dtype=torch.long)
    assert TaskLoss().positions(logits, masks).item() == pytest.approx(math.log(4))
    assert TaskLoss("focal").positions(logits, masks).item() == pytest.approx(9 / 16 * math.log(4))
    # Dice of class 0 alone, of which there is one pixel with p = 1/4: 1 - 2 · ¼ / (¼ + 1), over two classes.
    dice = TaskLoss("dice_cross_entropy").positions(logits, masks).item()
    assert dice == pytest.approx(math.log(4) + (1 - 0.5 / 1.25) / 2)


@pytest.mark.parametrize("name", ["cross_entropy", "weighted", "smoothed", "focal"])
def test_matches_a_slow_reference(name: str, pixels: tuple[Tensor, Tensor]) -> None:
    assert batch_loss(LOSSES[name], *pixels).item() == pytest.approx(reference(LOSSES[name], *pixels), rel=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "weighted", "smoothed"])
def test_is_the_hosts_own_mean(name: str, pixels: tuple[Tensor, Tensor]) -> None:
    loss = LOSSES[name]
    weights = None if loss.class_weights is None else torch.tensor(loss.class_weights)
    host = F.cross_entropy(*pixels, weights, ignore_index=IGNORE, label_smoothing=loss.label_smoothing)
    torch.testing.assert_close(batch_loss(loss, *pixels), host)


def test_dice_is_the_librarys(pixels: tuple[Tensor, Tensor]) -> None:
    dice = smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(*pixels)
    torch.testing.assert_close(batch_loss(LOSSES["dice"], *pixels), batch_loss(TaskLoss(), *pixels) + 0.7 * dice)


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_say_nothing(name: str, pixels: tuple[Tensor, Tensor]) -> None:
    logits, masks = pixels
    before = batch_loss(LOSSES[name], logits, masks)
    changed = torch.where((masks == IGNORE)[:, None], logits + 7 * torch.randn_like(logits), logits).requires_grad_()
    after = batch_loss(LOSSES[name], changed, masks)
    torch.testing.assert_close(after, before)
    (gradient,) = torch.autograd.grad(after, changed)
    assert (gradient[(masks == IGNORE)[:, None].expand_as(gradient)] == 0).all()
    assert batch_loss(LOSSES[name], logits, torch.full_like(masks, IGNORE)).item() == 0


def test_focal_of_gamma_0_is_cross_entropy(pixels: tuple[Tensor, Tensor]) -> None:
    torch.testing.assert_close(batch_loss(TaskLoss("focal", gamma=0), *pixels), batch_loss(TaskLoss(), *pixels))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "lovasz"}, "name='lovasz'"),
        ({"class_weights": [1.0, 0.0]}, "class_weights"),
        ({"name": "focal", "label_smoothing": 0.1}, "label_smoothing=0.1 does not go with loss.name=focal"),
    ],
)
def test_mistakes_are_named(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TaskLoss(**arguments)


def test_a_filter_of_positions_takes_no_loss_without_them() -> None:
    taught = Distillation({"kddg": KDDG()}, teacher=Teacher([unet(1)]))
    with pytest.raises(
        InputError, match=r"kddg filters the task's loss .* loss.name=dice_cross_entropy is not made of"
    ):
        SegmentationModule(unet(), 2, taught, loss=TaskLoss("dice_cross_entropy"))
    for reading in ("teacher", "softened", "overlap"):
        taught = Distillation({"kddg": KDDG(reading=reading)}, teacher=Teacher([unet(1)]))  # type: ignore[arg-type]
        SegmentationModule(unet(), 2, taught, loss=TaskLoss("dice_cross_entropy"))


def test_there_is_a_weight_for_every_class() -> None:
    with pytest.raises(InputError, match=r"loss.class_weights=\[1.0, 2.0, 3.0\] must be 2 numbers, one a class"):
        SegmentationModule(unet(), 2, loss=TaskLoss(class_weights=[1.0, 2.0, 3.0]))


@pytest.mark.parametrize("name", ["cross_entropy", "focal", "dice_cross_entropy"])
def test_with_and_without_terms_it_is_the_same_loss(name: Any, batches: list[dict[str, Tensor]]) -> None:
    loss = TaskLoss(name, class_weights=[1.0, 4.0])
    idle = Distillation({"kd": KD(weight=0.0)}, teacher=Teacher([unet(1)]))
    network = unet()
    plain, distilled = (
        fit(SegmentationModule(copy.deepcopy(network), 2, method, loss=loss), batches, 2) for method in (None, idle)
    )
    torch.testing.assert_close(plain.losses, distilled.losses)
    expected = batch_loss(loss, network(batches[0]["image"]), batches[0]["mask"])
    torch.testing.assert_close(plain.losses[0], expected.detach())


def test_a_program_takes_them_and_names_mistakes(tmp_path: Path, call: Callable[..., Any], tiny: list[str]) -> None:
    focal = ["loss.name=focal", "loss.class_weights=[1,3]", "evaluation.every=0"]
    outcome = call(train, *tiny, *focal, f"run_dir={tmp_path / 'run'}")
    assert (outcome.status, outcome.err) == (0, "")
    for mistake, said in {
        "loss.class_weights=[1,2,3]": "loss.class_weights=[1.0, 2.0, 3.0] must be 2 numbers, one a class",
        "+loss.alpha=1": "loss.alpha is not known; use one of: name, class_weights",
        "loss.gamma=-1": "loss.gamma=-1 must not be negative",
    }.items():
        outcome = call(train, *tiny, mistake, f"run_dir={tmp_path / 'other'}")
        assert outcome.status == 2 and said in outcome.err
        assert not (tmp_path / "other").exists()
