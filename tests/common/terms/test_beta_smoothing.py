"""Beta smoothing: exact beside the task's loss, ranks, the law of the draw, the average and its state."""

import copy
import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.terms.beta_smoothing import BetaSmoothing, rank_matched_beta, smoothing_gain
from common.view import View

SHAPES = [(40, 4), (3, 5, 4, 3)]


def _network(shape: tuple[int, ...]) -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, shape[1]) if len(shape) == 2 else nn.Conv2d(3, shape[1], 1)


def _view(network: nn.Module, shape: tuple[int, ...], valid: Tensor | None = None) -> View:
    generator = torch.Generator().manual_seed(1)
    dtype = next(network.parameters()).dtype
    inputs = torch.randn(shape[0], 3, *shape[2:], generator=generator).to(dtype)
    targets = torch.randint(shape[1], shape[:1] + shape[2:], generator=generator)
    logits = network(inputs)
    return View(inputs, logits, nn.Identity(), logits, network, targets, valid)


def _bound(network: nn.Module, view: View, **options: float) -> BetaSmoothing:
    term = BetaSmoothing(**options)  # type: ignore[arg-type]
    term.bind(network, view)
    return term


def test_by_hand() -> None:
    # b = 0.7 of three classes: the others get 0.15 each. z = (2, 1, 0), y = 0: 0.3 · (2 − ½)
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    gain = smoothing_gain(logits, torch.tensor([0]), torch.tensor([0.7]))
    assert gain.item() == pytest.approx(0.45)
    soft = -(torch.tensor([[0.7, 0.15, 0.15]]) * logits.log_softmax(1)).sum()
    assert gain.item() == pytest.approx((soft + logits.log_softmax(1)[0, 0]).item())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("alpha", [0.3, 0.6, 1.0])
def test_with_the_task_it_is_the_papers_loss(shape: tuple[int, ...], alpha: float) -> None:
    network = _network(shape).double()
    view = _view(network, shape)
    assert view.targets is not None
    term = _bound(network, view, alpha=alpha)
    task = F.cross_entropy(view.logits, view.targets, reduction="none")
    torch.manual_seed(3)
    total = Distillation({"beta": term})(view, task).loss

    torch.manual_seed(3)
    confidence = view.logits.softmax(1).gather(1, view.targets[:, None])[:, 0].detach()
    kept = rank_matched_beta(confidence.flatten(), torch.arange(confidence.numel()), 3.0).view_as(confidence)
    hard = F.one_hot(view.targets, shape[1]).movedim(-1, 1).double()
    soft = kept[:, None] * hard + (1 - kept[:, None]) / (shape[1] - 1) * (1 - hard)
    soft_loss = -(soft * view.logits.log_softmax(1)).sum(1)
    torch.testing.assert_close(total, ((1 - alpha) * task + alpha * soft_loss).mean())


def test_the_most_confident_keeps_most() -> None:
    torch.manual_seed(0)
    confidence = torch.rand(200)
    kept = rank_matched_beta(confidence, torch.arange(200), 3.0)
    assert torch.equal(kept[confidence.argsort()], kept.sort().values)
    # of a part that is drawn, the others take the number of the nearest above
    drawn = torch.randperm(200)[:20]
    kept = rank_matched_beta(confidence, drawn, 3.0)
    assert torch.equal(kept[confidence.argsort()], kept.sort().values) and len(kept.unique()) == 20


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shape", [1.0, 3.0])
def test_the_draw_follows_the_beta_law(shape: float, tied: bool) -> None:
    torch.manual_seed(0)
    confidence = torch.ones(40_000) if tied else torch.rand(40_000)
    kept = rank_matched_beta(confidence, torch.arange(40_000), shape)
    for moment in (1, 2, 3):
        assert kept.pow(moment).mean().item() == pytest.approx(shape / (shape + moment), rel=0.02)


def test_gradient_reaches_the_student_and_not_the_average() -> None:
    network = _network((40, 4))
    view = _view(network, (40, 4))
    term = _bound(network, view)
    output = term(view)
    output.loss.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())
    assert all(parameter.grad is None for parameter in term.average.parameters())
    assert Distillation({"beta": term}).trainable_parameters() == []
    assert not any(value.requires_grad for value in output.metrics.values())


def test_invalid_pixels_are_neither_counted_nor_ranked() -> None:
    shape = (2, 5, 4, 4)
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2] = True
    network = _network(shape)
    view = _view(network, shape, valid)
    assert view.targets is not None
    view.targets[~valid] = 255
    term = _bound(network, view)
    torch.manual_seed(2)
    loss = term(view).loss
    assert (loss[~valid] == 0).all() and (loss[valid] != 0).all()
    (gradient,) = torch.autograd.grad(loss.sum(), view.logits)
    assert (gradient.movedim(1, -1)[~valid] == 0).all()
    # another image in the place of the invalid pixels changes nothing
    view = dataclasses.replace(view, inputs=torch.where(valid[:, None], view.inputs, 9.0))
    torch.manual_seed(2)
    torch.testing.assert_close(term(view).loss, loss)
    nothing = dataclasses.replace(view, valid=torch.zeros_like(valid))
    assert (term(nothing).loss == 0).all()


def test_the_average_follows_with_a_growing_decay() -> None:
    network = nn.Linear(1, 2)
    view = View(torch.ones(1, 1), torch.ones(1, 1), network, network(torch.ones(1, 1)), network, torch.tensor([0]))
    term = _bound(network, view, decay=0.7)
    expected = network.weight.detach().clone()
    for decay in (1 / 2, 2 / 3, 0.7, 0.7):
        with torch.no_grad():
            network.weight.add_(1.0)
        term.after_step(network, 0.0)
        expected = decay * expected + (1 - decay) * network.weight.detach()
        torch.testing.assert_close(term.average.network.weight, expected)


def test_state_continues_bit_for_bit() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    view = _view(network, (2, 4, 3, 3))
    term = _bound(network, view)

    def train(term: BetaSmoothing, network: nn.Module) -> None:
        for _ in range(3):
            network(view.inputs)
            with torch.no_grad():
                network[0].weight.mul_(1.1)  # type: ignore[index]
            term.after_step(network, 0.0)

    train(term, network)
    other = copy.deepcopy(network)
    resumed = BetaSmoothing()
    resumed.bind(other, view)
    resumed.load_state_dict(term.state_dict())
    train(term, network)
    train(resumed, other)
    assert resumed.state_dict().keys() == term.state_dict().keys()
    assert all(
        torch.equal(a, b) for a, b in zip(term.state_dict().values(), resumed.state_dict().values(), strict=True)
    )
    torch.manual_seed(1)
    first = term(view).loss
    torch.manual_seed(1)
    assert torch.equal(first, resumed(view).loss)


def test_one_class_is_refused() -> None:
    network = nn.Linear(3, 1)
    with pytest.raises(InputError, match="at least 2 classes"):
        BetaSmoothing().bind(network, _view(network, (4, 1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, r"alpha=0.0 must be in \(0, 1\]"),
        ({"alpha": math.nan}, r"alpha=nan must be in \(0, 1\]"),
        ({"shape": 0.0}, "shape=0.0 must be positive"),
        ({"decay": 1.0}, r"decay=1.0 must be in \[0, 1\)"),
        ({"positions": 0}, "positions=0 must be at least 1"),
    ],
)
def test_errors_name_the_value(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BetaSmoothing(**options)  # type: ignore[arg-type]
