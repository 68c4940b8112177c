"""KD: values by hand, the gradient T (p − q), what is logged."""

import math

import pytest
import torch

from common.distillation import Distillation
from common.errors import InputError
from common.teacher import Teacher
from common.terms import KD
from tests.views import logits_view


def test_by_hand() -> None:
    # At T = 2 the teacher is (3/4, 1/4), the student even: T² · [3/4 ln(3/2) + 1/4 ln(1/2)]
    view = logits_view(torch.zeros(1, 2), teacher=torch.tensor([[2 * math.log(3.0), 0.0]]))
    expected = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    torch.testing.assert_close(KD(temperature=2.0)(view).loss, torch.tensor([expected]))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("shape", [(3, 4), (2, 5, 3, 2)])
def test_gradient_is_temperature_times_p_minus_q_times_weight(shape: tuple[int, ...], temperature: float) -> None:
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(2, *shape, dtype=torch.float64)
    logits.requires_grad_()
    weight, task_weight = 0.7, 0.0
    distillation = Distillation({"kd": KD(weight, temperature)}, task_weight, Teacher([torch.nn.Identity()]))
    distillation(logits_view(logits, teacher=teacher_logits), torch.tensor(3.0)).loss.backward()
    p = (logits.detach() / temperature).softmax(dim=1)
    q = (teacher_logits / temperature).softmax(dim=1)
    positions = logits.numel() / shape[1]
    torch.testing.assert_close(logits.grad, weight * temperature * (p - q) / positions, rtol=1e-9, atol=1e-12)


def test_loss_is_per_position_and_zero_where_not_valid() -> None:
    torch.manual_seed(0)
    logits, teacher_logits = torch.randn(2, 2, 5, 3, 2)
    valid = torch.rand(2, 3, 2) > 0.5
    assert valid.any() and not valid.all()
    loss = KD()(logits_view(logits, teacher=teacher_logits, valid=valid)).loss
    assert loss.shape == (2, 3, 2)
    assert (loss[~valid] == 0).all() and (loss[valid] > 0).all()


def test_agreement_is_counted_over_valid_positions() -> None:
    logits = torch.tensor([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    teacher_logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    assert KD()(logits_view(logits, teacher=teacher_logits)).metrics["teacher_agreement"].item() == 0.75
    valid = torch.tensor([True, True, False, False])
    assert KD()(logits_view(logits, teacher=teacher_logits, valid=valid)).metrics["teacher_agreement"].item() == 0.5


def test_needs_a_teacher_and_asks_for_no_filter() -> None:
    assert KD.needs == {"teacher"}
    assert KD()(logits_view(torch.zeros(1, 2), teacher=torch.zeros(1, 2))).position_weight is None


@pytest.mark.parametrize("temperature", [0.0, -2.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(InputError, match=f"temperature={temperature} must be positive"):
        KD(temperature=temperature)
