"""SECANT: value by hand, a slow reference, the teacher's constant, what is augmented and what may not be."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import InputError
from common.terms import KD, Secant
from common.view import View


class _Network(nn.Module):
    """Dense or one answer a frame; keeps what it was shown."""

    def __init__(self, dense: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, 4, 1) if dense else nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 4))
        self.seen: list[Tensor] = []

    def forward(self, frames: Tensor) -> Tensor:
        self.seen.append(frames)
        answer: Tensor = self.layer(frames)
        return answer


def frames() -> Tensor:
    return torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def view_of(network: _Network, **more: Any) -> View:
    images = frames()
    logits = network(images)
    network.seen.clear()
    teacher_logits = 2 * torch.randn(logits.shape, generator=torch.Generator().manual_seed(1))
    return View(images, logits, nn.Identity(), logits, network, teacher_logits=teacher_logits, **more)


def test_by_hand() -> None:
    # q = (3/4, 1/4), the student's even on f(x): 3/4 ln 3/2 + 1/4 ln 1/2, whatever it says of x.
    logits, teacher = torch.tensor([[9.0, 0.0]]), torch.tensor([[math.log(3.0), 0.0]])
    view = View(frames()[:1], logits, nn.Identity(), logits, lambda _: torch.zeros(1, 2), teacher_logits=teacher)
    output = Secant()(view)
    assert output.loss.item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert output.metrics["teacher_agreement"].item() == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("dense", [False, True])
def test_matches_a_slow_reference(temperature: float, dense: bool) -> None:
    network = _Network(dense)
    view = view_of(network)
    assert view.teacher_logits is not None
    loss = Secant(temperature=temperature)(view).loss
    (augmented,) = network.seen
    z, q = network.layer(augmented).double() / temperature, (view.teacher_logits.double() / temperature).softmax(1)
    expected = temperature**2 * (q * (q.log() - z.log_softmax(1))).sum(1)
    torch.testing.assert_close(loss, expected.float(), rtol=1e-5, atol=1e-5)


def test_the_student_sees_augmented_frames_and_learns_through_them_alone() -> None:
    network = _Network()
    view = view_of(network)
    loss = Secant()(view).loss.sum()
    (augmented,) = network.seen
    assert augmented.shape == view.inputs.shape and not torch.equal(augmented, view.inputs)
    assert torch.autograd.grad(loss, view.logits, retain_graph=True, allow_unused=True) == (None,)
    assert all(gradient.abs().sum() > 0 for gradient in torch.autograd.grad(loss, list(network.parameters())))


def test_without_a_change_it_is_kd(monkeypatch: pytest.MonkeyPatch) -> None:
    view = view_of(_Network())
    term = Secant(temperature=2.0, strength=1e-6)
    torch.testing.assert_close(term(view).loss, KD(temperature=2.0)(view).loss, rtol=1e-4, atol=1e-5)


def test_invalid_positions_say_nothing() -> None:
    valid = torch.ones(6, 8, 8, dtype=torch.bool)
    valid[:, :3] = False
    network = _Network(dense=True)
    loss = Secant()(view_of(network, valid=valid)).loss
    assert (loss[~valid] == 0).all() and (loss[valid] > 0).all()


@pytest.mark.parametrize(("augmentation", "moves"), [("color", False), ("crop", True), ("both", True)])
def test_what_each_augmentation_does(augmentation: Any, moves: bool) -> None:
    network = _Network()
    torch.manual_seed(3)
    Secant(augmentation=augmentation, pixels=2)(view_of(network))
    (augmented,) = network.seen
    correlations = [
        torch.corrcoef(torch.stack([ours.flatten(), theirs.flatten()]))[0, 1].item()
        for frame, change in zip(frames(), augmented, strict=True)
        for ours, theirs in zip(frame, change, strict=True)
    ]
    assert (min(correlations) < 0.9) == moves


@pytest.mark.parametrize(
    ("dense", "arguments", "inputs", "said"),
    [
        (True, {"augmentation": "crop"}, None, "augmentation=crop shifts pixels away from their labels"),
        (True, {"augmentation": "both"}, None, "augmentation=both shifts pixels away from their labels"),
        (False, {}, torch.zeros(6, 4), r"secant augments frames \[B, C, H, W\]; the inputs are \[6, 4\]"),
    ],
)
def test_what_cannot_be_augmented_is_refused(
    dense: bool, arguments: dict[str, Any], inputs: Tensor | None, said: str
) -> None:
    network = _Network(dense)
    view = view_of(network)
    if inputs is not None:
        view = View(inputs, view.logits, nn.Identity(), view.logits, network)
    with pytest.raises(InputError, match=said):
        Secant(**arguments).bind(network, view)
