"""KDDG: the gradient of the total by hand for every reading, and what the filter logs."""

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from common.distillation import Distillation, DistillationOutput
from common.errors import InputError
from common.teacher import Teacher
from common.terms import KD, KDDG, Term
from common.terms.kddg import Reading
from common.view import View
from tests.views import logits_view

READINGS: tuple[Reading, ...] = get_args(Reading)
SHAPES = [(40, 4), (4, 5, 4, 3)]


def _draw(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Student, teacher and labels; many positions are confident enough to be filtered."""
    generator = torch.Generator().manual_seed(0)
    logits, teacher_logits = 3 * torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)
    targets = torch.where(torch.rand(targets.shape, generator=generator) < 0.7, logits.argmax(dim=1), targets)
    return logits.requires_grad_(), teacher_logits, targets


def _total(term: Term, view: View, task_weight: float) -> DistillationOutput:
    assert view.targets is not None
    task = F.cross_entropy(view.logits, view.targets, reduction="none")
    return Distillation({"kddg": term}, task_weight, Teacher([torch.nn.Identity()]))(view, task)


def _filter(p: Tensor, n: float) -> Tensor:
    """The filter written piece by piece."""
    middle = ((n + 1 - 2 * p) / (1 - n)) ** 2
    return torch.where(p <= n, torch.ones_like(p), torch.where(p <= (1 + n) / 2, middle, torch.zeros_like(p)))


def _one_hot(targets: Tensor, classes: int) -> Tensor:
    return F.one_hot(targets, classes).movedim(-1, 1).double()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("task_weight", "weight", "temperature"), [(1.0, 1.0, 1.0), (0.1, 0.9, 4.0)])
def test_student_reading_scales_the_whole_gradient_of_a_position(
    shape: tuple[int, ...], task_weight: float, weight: float, temperature: float
) -> None:
    logits, teacher_logits, targets = _draw(shape)
    view = logits_view(logits, targets, teacher=teacher_logits)
    _total(KDDG(weight, temperature, 0.5), view, task_weight).loss.backward()

    p, y = logits.detach().softmax(dim=1), _one_hot(targets, shape[1])
    w = _filter((p * y).sum(dim=1, keepdim=True), 0.5)
    assert (w == 0).any() and (w == 1).any() and ((w > 0) & (w < 1)).any()
    soft, q = (logits.detach() / temperature).softmax(dim=1), (teacher_logits / temperature).softmax(dim=1)
    # No term from the filter's own slope: w is a constant of the step.
    expected = w * (task_weight * (p - y) + weight * temperature * (soft - q)) / targets.numel()
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-8)


def _looked_at(reading: Reading, logits: Tensor, teacher: Tensor, y: Tensor, temperature: float) -> Tensor:
    """The probability that is filtered, ``[B, 1, *]``, from its definition."""
    p, q = (logits / temperature).softmax(dim=1), (teacher / temperature).softmax(dim=1)
    if reading == "teacher":
        return teacher.softmax(dim=1).amax(dim=1, keepdim=True)
    if reading == "softened":
        return (q * y).sum(dim=1, keepdim=True)
    return 1 - (p - q).abs().sum(dim=1, keepdim=True) / 2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reading", ["teacher", "softened", "overlap"])
def test_the_other_readings_scale_the_distillation_alone(shape: tuple[int, ...], reading: Reading) -> None:
    task_weight, weight, temperature = 0.3, 0.9, 2.0
    logits, teacher_logits, targets = _draw(shape)
    output = _total(
        KDDG(weight, temperature, 0.5, reading), logits_view(logits, targets, teacher=teacher_logits), task_weight
    )
    output.loss.backward()

    p, y = logits.detach().softmax(dim=1), _one_hot(targets, shape[1])
    w = _filter(_looked_at(reading, logits.detach(), teacher_logits, y, temperature), 0.5)
    assert (w == 0).any() and (w == 1).any() and ((w > 0) & (w < 1)).any()
    soft, q = (logits.detach() / temperature).softmax(dim=1), (teacher_logits / temperature).softmax(dim=1)
    expected = (task_weight * (p - y) + w * weight * temperature * (soft - q)) / targets.numel()
    torch.testing.assert_close(logits.grad, expected, rtol=1e-5, atol=1e-8)


def test_softened_and_overlap_by_hand() -> None:
    # One position, T = 2: the teacher's logits (2 ln 3, 0) are .75 and .25, the student's (0, 0) a half each.
    teacher, student = torch.tensor([[2 * math.log(3), 0.0]]), torch.zeros(1, 2)
    view = logits_view(student, torch.tensor([0]), teacher=teacher)
    # KL(q ‖ p) = .75 ln 1.5 + .25 ln .5, and T² = 4 times that.
    loss = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    # n = .6: w(.75) = ((1.6 − 1.5) / .4)² = 1/16; the overlap is .5 + .25 = .75 as well.
    for reading in ("softened", "overlap"):
        output = KDDG(1.0, 2.0, 0.6, reading)(view)  # type: ignore[arg-type]
        assert output.loss.item() == pytest.approx(loss / 16, rel=1e-4)
        assert output.position_weight is None
    # The other label has .25, below the threshold.
    other = logits_view(student, torch.tensor([1]), teacher=teacher)
    assert KDDG(1.0, 2.0, 0.6, "softened")(other).loss.item() == pytest.approx(loss, rel=1e-5)


def test_overlap_leaves_a_student_alone_that_says_what_its_teacher_says() -> None:
    logits, _, targets = _draw((40, 4))
    teacher = (logits.detach() + 1e-3 * torch.randn(40, 4, generator=torch.Generator().manual_seed(1))).double()
    _total(KDDG(reading="overlap"), logits_view(logits, targets, teacher=teacher), 0.0).loss.backward()
    assert logits.grad is not None and not logits.grad.any()


def test_teacher_reading_leaves_the_tasks_gradient_where_the_teacher_is_certain() -> None:
    logits, _, targets = _draw((40, 4))
    certain = 100 * _one_hot(targets, 4)
    _total(KDDG(reading="teacher"), logits_view(logits, targets, teacher=certain), 1.0).loss.backward()
    expected = (logits.detach().softmax(dim=1) - _one_hot(targets, 4)) / 40
    torch.testing.assert_close(logits.grad, expected, rtol=1e-9, atol=1e-12)


def test_without_targets_the_label_is_the_teachers_most_probable_class() -> None:
    logits, teacher_logits, _ = _draw((40, 4))
    term = KDDG(threshold=0.5)
    unlabelled = term(logits_view(logits, None, teacher=teacher_logits)).position_weight
    labelled = term(logits_view(logits, teacher_logits.argmax(dim=1), teacher=teacher_logits)).position_weight
    own = term(logits_view(logits, logits.argmax(dim=1), teacher=teacher_logits)).position_weight
    assert torch.equal(unlabelled, labelled)
    assert not torch.equal(unlabelled, own)


def test_filter_is_detached() -> None:
    logits, teacher_logits, targets = _draw((40, 4))
    weight = KDDG()(logits_view(logits, targets, teacher=teacher_logits)).position_weight
    assert weight is not None and not weight.requires_grad and weight.shape == (40,)
    for reading in ("teacher", "softened", "overlap"):
        assert KDDG(reading=reading)(logits_view(logits, targets, teacher=teacher_logits)).position_weight is None  # type: ignore[arg-type]


@pytest.mark.parametrize("reading", READINGS)
def test_fraction_filtered_and_mean_weight_are_told(reading: Reading) -> None:
    # Probabilities .5, .91, .94 and .99 of class 0 at n = .9: w = 1, .64, .04, 0.
    probabilities = torch.tensor([0.5, 0.91, 0.94, 0.99])
    confident = torch.stack([probabilities, 1 - probabilities], dim=1).log()
    plain = torch.zeros(4, 2)
    if reading == "overlap":  # what both say has in common .5, .91, .94 and .99
        plain = torch.tensor([[0.0, 1.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]).log().clamp(min=-200)
    student, teacher = (confident, plain) if reading in ("student", "overlap") else (plain, confident)
    targets = torch.zeros(4, dtype=torch.long)
    term = KDDG(threshold=0.9, reading=reading)
    output = term(logits_view(student, targets, teacher=teacher))
    metrics = output.metrics
    assert output.shares["fraction_filtered"].item() == 0.75
    assert metrics["filter_weight"].item() == pytest.approx((1 + 0.64 + 0.04) / 4, abs=1e-5)
    valid = torch.tensor([True, True, False, False])
    output = term(logits_view(student, targets, valid, teacher=teacher))
    metrics = output.metrics
    assert output.shares["fraction_filtered"].item() == 0.5
    assert metrics["filter_weight"].item() == pytest.approx(0.82, abs=1e-5)
    assert "teacher_agreement" in metrics


@pytest.mark.parametrize("reading", READINGS)
def test_threshold_near_one_equals_kd(reading: Reading) -> None:
    logits, teacher_logits, targets = _draw((4, 5, 4, 3))
    view = logits_view(logits, targets, teacher=teacher_logits)
    filtered = _total(KDDG(0.5, 2.0, 1 - 1e-9, reading), view, 0.1)
    plain = _total(KD(0.5, 2.0), view, 0.1)
    assert filtered.metrics["kddg/fraction_filtered"] == 0
    assert torch.equal(filtered.loss, plain.loss)


def test_invalid_positions_may_hold_any_label() -> None:
    logits, teacher_logits, targets = _draw((4, 5, 4, 3))
    valid = torch.arange(48).reshape(4, 4, 3) % 3 != 0
    ignored = targets.masked_fill(~valid, 255)
    task = F.cross_entropy(logits, ignored, ignore_index=255, reduction="none")
    distillation = Distillation({"kddg": KDDG(threshold=0.5)}, 1.0, Teacher([torch.nn.Identity()]))
    distillation(logits_view(logits, ignored, valid, teacher=teacher_logits), task).loss.backward()
    assert logits.grad is not None
    inside = valid.unsqueeze(1).expand_as(logits)
    assert (logits.grad[~inside] == 0).all() and logits.grad[inside].abs().sum() > 0


@pytest.mark.parametrize("threshold", [1.0, -0.1, math.nan])
def test_threshold_out_of_range(threshold: float) -> None:
    with pytest.raises(InputError, match=rf"threshold={threshold} must be in \[0, 1\)"):
        KDDG(threshold=threshold)


def test_unknown_reading() -> None:
    with pytest.raises(
        InputError, match="reading='both' is not known; use one of: student, teacher, softened, overlap"
    ):
        KDDG(reading="both")  # type: ignore[arg-type]
