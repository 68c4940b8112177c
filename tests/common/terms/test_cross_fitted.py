"""Cross-fitted distillation: the correction by hand and against the teacher moved a little, its limits, the folds."""

import math

import pytest
import torch
from torch import Tensor, nn

from common.distillation import Distillation
from common.errors import InputError
from common.losses import kl_divergence
from common.teacher import CrossFittedTeacher, Teacher
from common.terms.cross_fitted import CrossFittedKD, residual, target_shift
from common.view import View

SHAPES = [(6, 4), (2, 5, 3, 2)]


def _draw(shape: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, teacher_logits = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    targets = torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)
    return logits.requires_grad_(), teacher_logits, targets


def _view(logits: Tensor, teacher_logits: Tensor, targets: Tensor, valid: Tensor | None = None) -> View:
    return View(logits, logits, nn.Identity(), logits, nn.Identity(), targets, valid, teacher_logits=teacher_logits)


def test_by_hand() -> None:
    # p = (3/4, 1/4), y = 1, T = 2: w = (√3, 1)/(1 + √3), r = (−1, 3), Δw = w/2 · (r − w·r)
    teacher = torch.tensor([[math.log(3.0), 0.0]])
    r = residual(teacher.softmax(1), torch.tensor([1]), "orthogonal", 1.0, 0.01)
    torch.testing.assert_close(r, torch.tensor([[-1.0, 3.0]]))
    w0 = math.sqrt(3) / (1 + math.sqrt(3))
    mean = -w0 + 3 * (1 - w0)
    expected = torch.tensor([[w0 / 2 * (-1 - mean), (1 - w0) / 2 * (3 - mean)]])
    torch.testing.assert_close(target_shift(teacher, r, 2.0), expected)
    # the student is even: KL(w ‖ ½) − Σ Δw log ½, and Δw sums to zero
    loss = CrossFittedKD(temperature=2.0)(_view(torch.zeros(1, 2), teacher, torch.tensor([1]))).loss
    divergence = w0 * math.log(2 * w0) + (1 - w0) * math.log(2 * (1 - w0))
    assert loss.item() == pytest.approx(4 * divergence, rel=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("correction", ["none", "orthogonal", "bounded"])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_matches_a_slow_reference(shape: tuple[int, ...], correction: str, temperature: float) -> None:
    logits, teacher_logits, targets = _draw(shape)
    strength, floor = 0.3, 0.05
    term = CrossFittedKD(1.0, temperature, correction, strength, floor)  # type: ignore[arg-type]
    losses = term(_view(logits, teacher_logits, targets)).loss.flatten()
    z, t = (x.movedim(1, -1).flatten(0, -2) for x in (logits, teacher_logits))
    for loss, student, teacher, label in zip(losses, z, t, targets.flatten(), strict=True):
        p, w, q = teacher.softmax(0), (teacher / temperature).softmax(0), (student / temperature).softmax(0)
        expected = sum(w[c] * (w[c] / q[c]).log() for c in range(shape[1]))
        y = [float(c == label) for c in range(shape[1])]
        if correction == "orthogonal":
            r = [y[c] / max(p[c], floor) - 1 for c in range(shape[1])]
        elif correction == "bounded":
            r = [strength / max(p[c], floor) / (strength + (y[c] - p[c]) ** 2) * (y[c] - p[c]) for c in range(shape[1])]
        else:
            r = [0.0] * shape[1]
        mean = sum(w[c] * r[c] for c in range(shape[1]))
        for c in range(shape[1]):
            expected -= w[c] / temperature * (r[c] - mean) * q[c].log()
        torch.testing.assert_close(loss, temperature**2 * expected)


def test_the_shift_is_the_derivative_of_the_target() -> None:
    # w ∝ p^(1/T), moved from p towards p + h p r
    _, teacher_logits, targets = _draw((6, 4))
    p, temperature, h = teacher_logits.softmax(1), 3.0, 1e-6
    r = residual(p, targets, "orthogonal", 1.0, 1e-9)

    def target(p: Tensor) -> Tensor:
        powers = p.pow(1 / temperature)
        return powers / powers.sum(1, keepdim=True)

    numeric = (target(p + h * p * r) - target(p - h * p * r)) / (2 * h)
    shift = target_shift(teacher_logits, r, temperature)
    torch.testing.assert_close(shift, numeric, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(shift.sum(1), torch.zeros(6, dtype=torch.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("shape", SHAPES)
def test_at_temperature_one_the_correction_gives_the_labels_gradient(shape: tuple[int, ...]) -> None:
    logits, teacher_logits, targets = _draw(shape)
    term = CrossFittedKD(temperature=1.0, floor=1e-9)
    (gradient,) = torch.autograd.grad(term(_view(logits, teacher_logits, targets)).loss.sum(), logits)
    y = nn.functional.one_hot(targets, shape[1]).movedim(-1, 1)
    torch.testing.assert_close(gradient, logits.detach().softmax(1) - y)


def test_bounded_lies_between_plain_and_orthogonal() -> None:
    logits, teacher_logits, targets = _draw((6, 4))
    view = _view(logits, teacher_logits, targets)
    plain = CrossFittedKD(correction="none")(view).loss
    torch.testing.assert_close(plain, 16 * kl_divergence(logits, teacher_logits, 4.0))
    weak = CrossFittedKD(correction="bounded", strength=1e-9, floor=1e-9)(view).loss
    torch.testing.assert_close(weak, plain, rtol=1e-6, atol=1e-6)
    strong = CrossFittedKD(correction="bounded", strength=1e9, floor=1e-9)(view).loss
    torch.testing.assert_close(strong, CrossFittedKD(floor=1e-9)(view).loss, rtol=1e-6, atol=1e-6)


def test_the_bounded_gamma_minimises_its_bound() -> None:
    p, c = torch.tensor([[0.2, 0.8]], dtype=torch.float64), 0.4
    gamma = residual(p, torch.tensor([0]), "bounded", c, 1e-9) / torch.tensor([[0.8, -0.8]])
    grid = torch.linspace(0, 6, 60001, dtype=torch.float64)
    for column, error in ((0, 0.8), (1, -0.8)):
        bound = grid**2 * error**2 + c * (grid - 1 / p[0, column]) ** 2
        assert gamma[0, column].item() == pytest.approx(grid[bound.argmin()].item(), abs=1e-4)


def test_invalid_pixels_and_the_teacher_get_nothing() -> None:
    logits, teacher_logits, targets = _draw((2, 5, 3, 2))
    teacher_logits.requires_grad_()
    valid = torch.ones(2, 3, 2, dtype=torch.bool)
    valid[1, 0] = False
    targets[~valid] = 255
    output = CrossFittedKD()(_view(logits, teacher_logits, targets, valid))
    assert (output.loss[~valid] == 0).all()
    gradient, teacher = torch.autograd.grad(output.loss.sum(), [logits, teacher_logits], allow_unused=True)
    assert teacher is None
    assert (gradient.movedim(1, -1)[~valid] == 0).all() and (gradient.movedim(1, -1)[valid] != 0).any()
    assert not any(value.requires_grad for value in output.metrics.values())


class _Constant(nn.Module):
    """Answers with its number, and remembers which inputs it was asked about."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.asked: list[float] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked += inputs[:, 0].tolist()
        return torch.stack([inputs[:, 0], torch.full((len(inputs),), float(self.number))], dim=1)


@pytest.mark.parametrize("folds", [None, [2, 0, 1, 1, 0, 2, 2, 0]])
def test_each_sample_is_labelled_by_its_own_folds_teacher(folds: list[int] | None) -> None:
    networks = [_Constant(number) for number in range(3)]
    teacher = CrossFittedTeacher(networks, None if folds is None else torch.tensor(folds))
    index = torch.tensor([7, 3, 0, 4, 5, 1])
    expected = [i % 3 if folds is None else folds[i] for i in index.tolist()]
    answer = teacher(index[:, None].float(), index)
    assert answer[:, 0].tolist() == index.tolist() and answer[:, 1].tolist() == expected
    assert sum(len(network.asked) for network in teacher.networks) == 6  # type: ignore[arg-type,misc]  # each sample costs one pass
    assert answer.grad_fn is None


def test_without_index_the_networks_are_averaged() -> None:
    torch.manual_seed(0)
    networks = [nn.Linear(3, 4) for _ in range(3)]
    inputs = torch.randn(5, 3)
    assert torch.equal(CrossFittedTeacher(networks)(inputs), Teacher(networks)(inputs))
    assert torch.equal(Teacher(networks)(inputs, torch.arange(5)), Teacher(networks)(inputs))


def test_folds_are_saved() -> None:
    networks = [nn.Linear(3, 4) for _ in range(2)]
    teacher = CrossFittedTeacher(networks, torch.tensor([0, 1, 1]))
    assert torch.equal(teacher.state_dict()["folds"], torch.tensor([0, 1, 1]))


def test_the_method_makes_the_teacher_cross_fitted() -> None:
    networks = [nn.Linear(3, 4) for _ in range(2)]
    distillation = Distillation({"cross_fitted": CrossFittedKD()}, teacher=Teacher(networks))
    assert isinstance(distillation.teacher, CrossFittedTeacher)
    for ours, theirs in zip(distillation.teacher.networks, networks, strict=True):
        assert torch.equal(ours.weight, theirs.weight)  # type: ignore[arg-type]
    own = CrossFittedTeacher(networks, torch.tensor([1, 0]))
    assert Distillation({"cross_fitted": CrossFittedKD()}, teacher=own).teacher is own
    with pytest.raises(InputError, match="needs a network a fold, at least 2, got 1"):
        Distillation({"cross_fitted": CrossFittedKD()}, teacher=Teacher(networks[:1]))


def test_differing_classes_and_unknown_folds_are_named() -> None:
    teacher = CrossFittedTeacher([nn.Linear(3, 4), nn.Linear(3, 5)])
    with pytest.raises(ValueError, match=r"differ in shape.*\(4,\).*\(5,\)"):
        teacher(torch.zeros(2, 3), torch.tensor([0, 1]))
    with pytest.raises(InputError, match=r"folds must be in 0 .. 1"):
        CrossFittedTeacher([nn.Linear(3, 4), nn.Linear(3, 4)], torch.tensor([0, 2]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"strength": 0.0}, "strength=0.0 must be positive"),
        ({"floor": 0.0}, r"floor=0.0 must be in \(0, 1\)"),
        ({"correction": "full"}, "correction='full' is not known; use one of: none, orthogonal, bounded"),
    ],
)
def test_errors_name_the_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CrossFittedKD(**options)  # type: ignore[arg-type]
