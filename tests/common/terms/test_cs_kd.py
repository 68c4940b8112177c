"""CS-KD: who is paired with whom, the class means, targets without a gradient."""

import math

import pytest
import torch
from torch import Tensor

from common.distillation import Distillation
from common.errors import InputError
from common.teacher import Teacher
from common.terms.cs_kd import CSKD, CSKDTeacher, class_means, class_partners
from tests.views import logits_view


def _draw(*shape: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)
    return logits, torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)


def test_partners_are_others_of_the_class() -> None:
    labels = torch.tensor([3, 0, 3, 1, 0, 3, 2])
    for seed in range(20):
        torch.manual_seed(seed)
        partner = class_partners(labels)
        assert torch.equal(labels[partner], labels)
        alone = partner == torch.arange(7)
        assert alone.tolist() == [False, False, False, True, False, False, True]


def test_partners_are_drawn_evenly() -> None:
    torch.manual_seed(0)
    labels = torch.zeros(4, dtype=torch.long)
    counts = torch.zeros(4, 4)
    for _ in range(3000):
        counts[torch.arange(4), class_partners(labels)] += 1
    assert (counts.diagonal() == 0).all()
    assert ((counts / 1000 - 1).abs() < 0.15).logical_or(torch.eye(4, dtype=torch.bool)).all()


def test_invalid_samples_are_nobodys_partner() -> None:
    labels = torch.tensor([0, 0, 0, 0])
    valid = torch.tensor([True, False, True, False])
    for seed in range(5):
        torch.manual_seed(seed)
        assert class_partners(labels, valid).tolist() == [2, 1, 0, 3]


def test_pairs_by_hand() -> None:
    # Two of class 0 at T = 2: (1/2, 1/2) and (3/4, 1/4); one of class 1, alone.
    logits = torch.tensor([[0.0, 0.0], [2 * math.log(3.0), 0.0], [5.0, -5.0]])
    output = CSKD(temperature=2.0)(logits_view(logits, torch.tensor([0, 0, 1])))
    first = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    second = 4 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2.0))
    torch.testing.assert_close(output.loss, torch.tensor([first, second, 0.0]))
    assert output.metrics["fraction_paired"].item() == pytest.approx(2 / 3)


def test_pairs_teach_without_a_gradient() -> None:
    logits, targets = _draw(8, 3)
    logits.requires_grad_()
    torch.manual_seed(0)
    CSKD(temperature=2.0)(logits_view(logits, targets)).loss.sum().backward()
    torch.manual_seed(0)
    partner = class_partners(targets)
    p, q = (logits.detach() / 2).softmax(dim=1), (logits.detach()[partner] / 2).softmax(dim=1)
    # T (p − q) alone: nothing of what a sample does for others.
    torch.testing.assert_close(logits.grad, 2 * (p - q), rtol=1e-9, atol=1e-12)
    alone = partner == torch.arange(8)
    assert alone.any() and (logits.grad is not None and (logits.grad[alone] == 0).all())


@pytest.mark.parametrize("temperature", [1.0, 4.0])
@pytest.mark.parametrize("masked", [False, True])
def test_maps_against_a_loop_in_float64(masked: bool, temperature: float) -> None:
    logits, targets = _draw(2, 4, 3, 5)
    valid = torch.rand(2, 3, 5, generator=torch.Generator().manual_seed(1)) > 0.3 if masked else None
    counted = torch.ones(2, 3, 5, dtype=torch.bool) if valid is None else valid
    loss = CSKD(temperature=temperature)(logits_view(logits, targets.masked_fill(~counted, 255), valid)).loss
    p = (logits / temperature).softmax(dim=1).movedim(1, -1)
    expected = torch.zeros(2, 3, 5, dtype=torch.float64)
    for b in range(2):
        for h in range(3):
            for w in range(5):
                if counted[b, h, w]:
                    mean = p[(targets == targets[b, h, w]) & counted].mean(dim=0)
                    expected[b, h, w] = temperature**2 * (mean * (mean / p[b, h, w]).log()).sum()
    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-11)


def test_class_means_of_absent_classes_are_zero() -> None:
    probabilities = torch.tensor([[0.2, 0.8, 0.0], [0.4, 0.6, 0.0]])
    means = class_means(probabilities, torch.tensor([1, 1]))
    torch.testing.assert_close(means, torch.tensor([[0.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.0, 0.0, 0.0]]))


def test_maps_teach_without_a_gradient() -> None:
    logits, targets = _draw(2, 4, 3, 5)
    logits.requires_grad_()
    CSKD(temperature=2.0)(logits_view(logits, targets)).loss.sum().backward()
    p = (logits.detach() / 2).softmax(dim=1)
    q = class_means(p, targets)[targets].movedim(-1, 1)
    torch.testing.assert_close(logits.grad, 2 * (p - q), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 4)])
def test_zero_where_a_class_is_of_one_mind(shape: tuple[int, ...]) -> None:
    _, targets = _draw(*shape)
    logits = torch.randn(3, 3, generator=torch.Generator().manual_seed(2))[targets].movedim(-1, 1)
    loss = CSKD()(logits_view(logits, targets)).loss
    torch.testing.assert_close(loss, torch.zeros_like(loss), rtol=0, atol=1e-5)


def test_certain_predictions_stay_finite() -> None:
    logits = torch.tensor([[[400.0, 500.0]], [[-400.0, -300.0]]]).movedim(0, 1).reshape(1, 2, 1, 2).requires_grad_()
    loss = CSKD(temperature=1.0)(logits_view(logits, torch.zeros(1, 1, 2, dtype=torch.long))).loss
    loss.sum().backward()
    assert loss.isfinite().all() and logits.grad is not None and logits.grad.isfinite().all()


@pytest.mark.parametrize("shape", [(12, 3), (2, 5, 3, 2)])
def test_invalid_positions_may_hold_anything(shape: tuple[int, ...]) -> None:
    logits, targets = _draw(*shape)
    valid = torch.arange(targets.numel()).reshape(targets.shape) % 3 != 0
    logits = logits.masked_fill(~valid.unsqueeze(1), math.inf).requires_grad_()
    loss = CSKD()(logits_view(logits, targets.masked_fill(~valid, 255), valid)).loss
    loss.sum().backward()
    assert (loss[~valid] == 0).all() and (loss[valid] > 0).any() and loss.isfinite().all()
    assert logits.grad is not None and logits.grad.isfinite().all()
    assert (logits.grad.movedim(1, -1)[~valid] == 0).all()


def test_same_seed_same_pairs() -> None:
    logits, targets = _draw(32, 3)
    values = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        values.append(CSKD()(logits_view(logits, targets)).loss)
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])


@pytest.mark.parametrize("shape", [(16, 3), (2, 3, 4, 4)])
def test_the_teachers_choice_groups_instead_of_labels(shape: tuple[int, ...]) -> None:
    logits, _ = _draw(*shape)
    teacher = torch.randn(*shape, generator=torch.Generator().manual_seed(5))
    torch.manual_seed(0)
    loss = CSKDTeacher()(logits_view(logits, None, teacher=teacher)).loss
    torch.manual_seed(0)
    expected = CSKD()(logits_view(logits, teacher.argmax(dim=1))).loss
    assert torch.equal(loss, expected) and (loss > 0).any()


def test_needs() -> None:
    with pytest.raises(InputError, match=r"cs_kd needs labels, which PPO does not have; .*method=cs_kd_teacher"):
        Distillation({"cs_kd": CSKD()}, name="cs_kd").check_needs({"teacher", "features"}, "PPO")
    with pytest.raises(InputError, match="needs a teacher"):
        Distillation({"cs_kd": CSKDTeacher()})
    method = Distillation({"cs_kd": CSKDTeacher()}, teacher=Teacher([torch.nn.Identity()]))
    method.check_needs({"teacher", "features"}, "PPO")


def test_half_precision_is_computed_in_float32() -> None:
    logits, targets = _draw(2, 3, 4, 4)
    loss = CSKD()(logits_view(logits.half(), targets)).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), CSKD()(logits_view(logits, targets)).loss, rtol=0.02, atol=0.01)


@pytest.mark.parametrize("temperature", [0.0, -2.0, math.nan])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(InputError, match=f"temperature={temperature} must be positive"):
        CSKD(temperature=temperature)
