"""Label smoothing: the total equals torch's cross-entropy with smoothed labels; who may use it."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.terms.label_smoothing import LabelSmoothing, smoothing_penalty
from tests.views import logits_view

SHAPES = [(6, 4), (2, 5, 3, 2)]


def _draw(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits.to(dtype), torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)


def test_by_hand() -> None:
    # p = (3/4, 1/4), label 0: mean(−log p) − (−log p_0) = ½ [log(4/3) + log 4] − log(4/3) = ½ log 3
    view = logits_view(torch.tensor([[math.log(3.0), 0.0]]), torch.tensor([0]))
    output = LabelSmoothing(epsilon=0.2)(view)
    torch.testing.assert_close(output.loss, torch.tensor([0.2 * 0.5 * math.log(3.0)]))
    assert output.metrics["label_probability"].item() == pytest.approx(0.75)


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.5])
@pytest.mark.parametrize("shape", SHAPES)
def test_task_and_term_equal_cross_entropy_with_smoothed_labels(shape: tuple[int, ...], epsilon: float) -> None:
    logits, targets = _draw(shape)
    valid = torch.rand(targets.shape, generator=torch.Generator().manual_seed(1)) > 0.3
    ignored = targets.masked_fill(~valid, 255)
    total = {}
    for name in ("ours", "torch"):
        z = logits.clone().requires_grad_()
        if name == "ours":
            task = F.cross_entropy(z, ignored, ignore_index=255, reduction="none")
            method = Distillation({"label_smoothing": LabelSmoothing(epsilon=epsilon)})
            loss = method(logits_view(z, ignored, valid), task).loss
        else:
            loss = F.cross_entropy(z, ignored, ignore_index=255, label_smoothing=epsilon)
        (gradient,) = torch.autograd.grad(loss, z)
        total[name] = (loss.detach(), gradient)
    torch.testing.assert_close(total["ours"], total["torch"], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("shape", SHAPES)
def test_reference_in_float64(shape: tuple[int, ...]) -> None:
    logits, targets = _draw(shape)
    log_p = logits.log_softmax(dim=1)
    expected = -log_p.mean(dim=1) + log_p.gather(1, targets.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(smoothing_penalty(logits, targets), expected, rtol=1e-12, atol=1e-13)
    single = smoothing_penalty(logits.float(), targets)
    torch.testing.assert_close(single.double(), expected, rtol=1e-5, atol=1e-5)
    half = smoothing_penalty(logits.half(), targets)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), expected, rtol=1e-2, atol=1e-2)


def test_no_penalty_where_all_classes_are_alike() -> None:
    assert (smoothing_penalty(torch.full((3, 7), 2.5), torch.tensor([0, 3, 6])) == 0).all()


def test_invalid_positions_may_hold_anything() -> None:
    logits, targets = _draw((2, 5, 3, 2))
    valid = torch.arange(12).reshape(2, 3, 2) % 3 != 0
    logits = logits.masked_fill(~valid.unsqueeze(1), math.inf).requires_grad_()
    loss = LabelSmoothing()(logits_view(logits, targets.masked_fill(~valid, 255), valid)).loss
    loss.sum().backward()
    assert (loss[~valid] == 0).all() and (loss[valid] != 0).any()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad.movedim(1, -1)[~valid] == 0).all() and (logits.grad.movedim(1, -1)[valid] != 0).any()


def test_without_labels_it_is_refused_and_its_analogue_named() -> None:
    method = Distillation({"smooth": LabelSmoothing()}, name="mine")
    method.check_needs({"labels"}, "segmentation")
    with pytest.raises(InputError, match=r"method=mine: smooth needs labels, which PPO does not have; .*ppo\.ent_coef"):
        method.check_needs({"teacher", "features"}, "PPO")


@pytest.mark.parametrize("epsilon", [0.0, 1.0, -0.1, math.nan])
def test_epsilon_out_of_range(epsilon: float) -> None:
    with pytest.raises(InputError, match=rf"epsilon={epsilon} must be in \(0, 1\)"):
        LabelSmoothing(epsilon=epsilon)
