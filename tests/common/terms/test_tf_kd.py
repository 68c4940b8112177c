"""Tf-KD reg: the virtual teacher, the divergence by hand and in float64, the authors' total."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.terms.tf_kd import TFKDReg, virtual_teacher
from tests.views import logits_view

SHAPES = [(6, 4), (2, 5, 3, 2)]


def _draw(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits, torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)


def _softened(targets: Tensor, classes: int, correct: float, temperature: float) -> Tensor:
    """The target, position by position."""
    target = torch.empty(*targets.shape, classes, dtype=torch.float64)
    for place in torch.cartesian_prod(*(torch.arange(size) for size in targets.shape)).reshape(-1, targets.dim()):
        label = int(targets[tuple(place)])
        u = [correct if c == label else (1 - correct) / (classes - 1) for c in range(classes)]
        exponentials = [math.exp(value / temperature) for value in u]
        target[tuple(place)] = torch.tensor(exponentials, dtype=torch.float64) / sum(exponentials)
    return target.movedim(-1, 1)


def test_the_virtual_teacher_is_right_and_sums_to_one() -> None:
    targets = torch.randint(5, (2, 3, 2), generator=torch.Generator().manual_seed(0))
    teacher = virtual_teacher(targets, 5, 0.99)
    assert torch.equal(teacher.argmax(dim=1), targets)
    torch.testing.assert_close(teacher.sum(dim=1), torch.ones(2, 3, 2))
    torch.testing.assert_close(teacher.amax(dim=1), torch.full((2, 3, 2), 0.99))
    torch.testing.assert_close(teacher.amin(dim=1), torch.full((2, 3, 2), 0.0025))


def test_by_hand() -> None:
    # u = (.9, .1), T = .8 / ln 3: softmax(u / T) = (3/4, 1/4); the student is even.
    temperature = 0.8 / math.log(3.0)
    view = logits_view(torch.zeros(1, 2), torch.tensor([0]))
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    output = TFKDReg(correct=0.9, temperature=temperature)(view)
    torch.testing.assert_close(output.loss, torch.tensor([expected]))
    assert output.metrics["accuracy"].item() == 1.0


@pytest.mark.parametrize("temperature", [1.0, 20.0])
@pytest.mark.parametrize("correct", [0.6, 0.99])
@pytest.mark.parametrize("shape", SHAPES)
def test_reference_in_float64(shape: tuple[int, ...], correct: float, temperature: float) -> None:
    logits, targets = _draw(shape)
    q, log_p = _softened(targets, shape[1], correct, temperature), logits.log_softmax(dim=1)
    expected = (q * (q.log() - log_p)).sum(dim=1)
    loss = TFKDReg(correct=correct, temperature=temperature)(logits_view(logits, targets)).loss
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)


def test_total_is_the_authors() -> None:
    # (1 − α) CE + α · (KL averaged over positions and classes) · multiplier, with multiplier = C.
    logits, targets = _draw((6, 4))
    q = _softened(targets, 4, 0.99, 20.0)
    elementwise = (q * (q.log() - logits.log_softmax(dim=1))).mean()
    expected = 0.9 * F.cross_entropy(logits, targets) + 0.1 * elementwise * 4
    task = F.cross_entropy(logits, targets, reduction="none")
    total = Distillation({"tf_kd_reg": TFKDReg()}, task_weight=0.9)(logits_view(logits, targets), task).loss
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-8)


def test_zero_where_the_student_is_the_softened_teacher() -> None:
    targets = torch.tensor([0, 2, 1])
    logits = (virtual_teacher(targets, 3, 0.99) / 20.0 + 7.0).double().requires_grad_()
    loss = TFKDReg()(logits_view(logits, targets)).loss
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), rtol=0, atol=1e-7)


def test_at_the_defaults_the_target_is_nearly_uniform() -> None:
    target = (virtual_teacher(torch.tensor([0]), 10, 0.99) / 20).softmax(dim=1)
    assert (target[0, 0] / target[0, 1]).item() == pytest.approx(1.05, abs=0.001)


def test_invalid_positions_may_hold_anything() -> None:
    logits, targets = _draw((2, 5, 3, 2))
    valid = torch.arange(12).reshape(2, 3, 2) % 3 != 0
    logits = logits.masked_fill(~valid.unsqueeze(1), math.inf).requires_grad_()
    loss = TFKDReg()(logits_view(logits, targets.masked_fill(~valid, 255), valid)).loss
    loss.sum().backward()
    assert (loss[~valid] == 0).all() and (loss[valid] > 0).all()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad.movedim(1, -1)[~valid] == 0).all()


def test_without_labels_it_is_refused_and_its_analogue_named() -> None:
    with pytest.raises(InputError, match=r"tf_kd_reg needs labels, which PPO does not have; .*ppo\.ent_coef"):
        Distillation({"tf_kd_reg": TFKDReg()}, name="tf_kd_reg").check_needs({"teacher", "features"}, "PPO")


@pytest.mark.parametrize("correct", [0.0, 1.0, math.nan])
def test_correct_out_of_range(correct: float) -> None:
    with pytest.raises(InputError, match=rf"correct={correct} must be in \(0, 1\)"):
        TFKDReg(correct=correct)


@pytest.mark.parametrize("temperature", [0.0, -2.0, math.nan])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(InputError, match=f"temperature={temperature} must be positive"):
        TFKDReg(temperature=temperature)
