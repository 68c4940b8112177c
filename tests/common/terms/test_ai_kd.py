"""AI-KD: its divergences, who learns from which adversarial loss, the epoch before, and its state."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.losses import kl_divergence
from common.teacher import Teacher
from common.terms.ai_kd import AIKD, adversarial_losses
from common.view import View

SHAPES = [(12, 4), (2, 4, 5, 3)]


def _network(shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Linear(3, shape[1]) if len(shape) == 2 else nn.Conv2d(3, shape[1], 1)


def _view(network: nn.Module, shape: tuple[int, ...], valid: Tensor | None = None) -> View:
    inputs = torch.randn(shape[0], 3, *shape[2:], generator=torch.Generator().manual_seed(1))
    inputs = inputs.to(next(network.parameters()).dtype)
    logits = network(inputs)
    teacher = _network(shape, 5).to(inputs.dtype)
    with torch.no_grad():
        teacher_logits = teacher(inputs)
    return View(inputs, logits, nn.Identity(), logits, network, valid=valid, teacher_logits=teacher_logits)


def _bound(network: nn.Module, view: View, **options: float) -> AIKD:
    torch.manual_seed(9)
    term = AIKD(**options)  # type: ignore[arg-type]
    term.bind(network, view)
    return term


def test_by_hand() -> None:
    # A discriminator that says log 3 to the first class: D = ¾ of (1, 0), ½ of (0, 1)
    discriminator = nn.Linear(2, 1)
    with torch.no_grad():
        discriminator.weight.copy_(torch.tensor([[math.log(3.0), 0.0]]))
        discriminator.bias.zero_()
    fooled, told = adversarial_losses(discriminator, torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert fooled.item() == pytest.approx(-math.log(0.75))
    assert told.item() == pytest.approx(-math.log(0.5) - math.log(0.25))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("pretrained", "previous", "adversarial"), [(1.0, 0.0, 0.0), (0.5, 0.3, 0.2)])
def test_matches_its_parts(shape: tuple[int, ...], pretrained: float, previous: float, adversarial: float) -> None:
    network = _network(shape).double()
    view = _view(network, shape)
    term = _bound(
        network, view, pretrained=pretrained, previous=previous, adversarial=adversarial, temperature=2.0
    ).double()
    past = copy.deepcopy(network)
    term.after_epoch(network, 0.5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3)
    view = dataclasses.replace(view, logits=network(view.inputs))
    loss = term(view).loss

    p, q, before = (z.div(2).log_softmax(1) for z in (view.logits, view.teacher_logits, past(view.inputs)))  # type: ignore[union-attr]
    expected = 4 * pretrained * (q.exp() * (q - p)).sum(1) + 4 * previous * (before.exp() * (before - p)).sum(1)
    if adversarial > 0:
        ours, theirs = (z.movedim(1, -1).softmax(-1) for z in (view.logits, view.teacher_logits))  # type: ignore[union-attr]
        said_ours, said_theirs = term.discriminator(ours).sigmoid(), term.discriminator(theirs).sigmoid()
        expected = expected - adversarial * said_ours.log().mean()
        expected = expected - said_theirs.log().mean() - (1 - said_ours).log().mean()
    torch.testing.assert_close(loss, expected)


def test_student_and_discriminator_learn_from_their_own_losses_alone() -> None:
    network = _network((12, 4))
    view = _view(network, (12, 4))
    discriminator = _bound(network, view).discriminator
    student = view.logits.softmax(1)
    teacher = torch.rand(12, 4).requires_grad_()
    fooled, told = adversarial_losses(discriminator, student, teacher)
    parameters = list(discriminator.parameters())
    assert torch.autograd.grad(fooled, [*parameters, teacher], retain_graph=True, allow_unused=True) == (None,) * 7
    assert torch.autograd.grad(told, [student, teacher], retain_graph=True, allow_unused=True) == (None, None)
    (gradient,) = torch.autograd.grad(fooled, student, retain_graph=True)
    assert gradient.abs().sum() > 0
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(told, parameters))
    # a step against the student's loss makes it look more like a teacher
    with torch.no_grad():
        better = F.softplus(-discriminator(student - 0.05 * gradient)).mean()
    assert better < fooled


def test_the_total_trains_the_student_the_discriminator_and_nothing_else() -> None:
    network = _network((12, 4))
    view = _view(network, (12, 4))
    term = _bound(network, view)
    term.after_epoch(network, 0.0)
    distillation = Distillation({"ai_kd": term}, teacher=Teacher([_network((12, 4), 5)]))
    distillation(view, torch.tensor(0.0)).loss.backward()
    assert all(parameter.grad is not None for parameter in [*network.parameters(), *term.discriminator.parameters()])
    assert all(parameter.grad is None for parameter in term.before.parameters())
    assert distillation.trainable_parameters() == list(term.discriminator.parameters())


def test_the_discriminator_learns_to_tell_them_apart() -> None:
    network = _network((12, 4))
    view = _view(network, (12, 4))
    term = _bound(network, view, hidden=16)
    optimizer = torch.optim.Adam(term.discriminator.parameters(), lr=0.02)
    first = term(view).metrics["discriminator"]
    for _ in range(150):
        optimizer.zero_grad()
        term(view).loss.mean().backward(retain_graph=True)
        optimizer.step()
    metrics = term(view).metrics
    assert metrics["discriminator"] < first and metrics["told_apart"] > 0.9


def test_in_the_first_epoch_there_is_none_before() -> None:
    network = _network((12, 4))
    view = _view(network, (12, 4))
    term = _bound(network, view, adversarial=0.0, temperature=3.0)
    assert view.teacher_logits is not None
    output = term(view)
    torch.testing.assert_close(output.loss, 9 * kl_divergence(view.logits, view.teacher_logits, 3.0))
    assert "previous" not in output.metrics
    term.after_epoch(network, 0.1)
    assert term(view).metrics["previous"].item() == pytest.approx(0.0, abs=1e-6)  # it is still the same network


def test_invalid_pixels_reach_no_part() -> None:
    shape = (2, 4, 5, 3)
    valid = torch.zeros(2, 5, 3, dtype=torch.bool)
    valid[0, :2] = True
    network = _network(shape)
    view = _view(network, shape, valid)
    term = _bound(network, view, adversarial=1.0)
    term.after_epoch(_network(shape, 3), 0.0)
    total = Distillation({"ai_kd": term}, teacher=Teacher([network]))
    (gradient,) = torch.autograd.grad(total(view, torch.zeros(2, 5, 3)).loss, view.logits)
    inside = gradient.movedim(1, -1)
    assert (inside[~valid] == 0).all() and (inside[valid] != 0).any()
    nothing = dataclasses.replace(view, valid=torch.zeros_like(valid))
    assert total(nothing, torch.zeros(2, 5, 3)).loss == 0


def test_state_continues_bit_for_bit() -> None:
    network = _network((12, 4))
    view = _view(network, (12, 4))
    term = _bound(network, view)
    term.after_epoch(_network((12, 4), 8), 0.0)
    resumed = AIKD()
    resumed.bind(network, view)
    resumed.load_state_dict(term.state_dict())
    assert resumed.epochs == 1
    assert torch.equal(term(view).loss, resumed(view).loss)


def test_same_seed_same_positions() -> None:
    network = _network((2, 4, 5, 3))
    view = _view(network, (2, 4, 5, 3))
    term = _bound(network, view, positions=7)

    def loss(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return term(view).loss

    assert torch.equal(loss(1), loss(1)) and not torch.equal(loss(1), loss(2))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"pretrained": -1.0}, "pretrained=-1.0 must not be negative"),
        ({"previous": math.nan}, "previous=nan must not be negative"),
        ({"adversarial": -0.1}, "adversarial=-0.1 must not be negative"),
        ({"hidden": 0}, "hidden=0 must be at least 1"),
        ({"positions": 0}, "positions=0 must be at least 1"),
    ],
)
def test_errors_name_the_value(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        AIKD(**options)  # type: ignore[arg-type]
