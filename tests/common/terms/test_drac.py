"""DrAC: value by hand, the authors' loss in the mean, constants stay constant, both augmentations."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from common.distillation import Distillation
from common.errors import InputError
from common.terms.drac import DrAC
from common.view import View


class _ActorCritic(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.actor, self.critic = nn.Linear(3 * 8 * 8, 5), nn.Linear(3 * 8 * 8, 1)
        self.seen: list[Tensor] = []

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(frames)
        flat = frames.flatten(1).to(self.actor.weight.dtype) / 255
        return self.actor(flat), self.critic(flat)[:, 0]


def _frames() -> Tensor:
    return torch.randint(256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def _view(policy: _ActorCritic, valid: Tensor | None = None) -> View:
    frames = _frames()
    logits, values = policy(frames)
    policy.seen.clear()
    return View(frames, logits, nn.Identity(), logits, nn.Identity(), valid=valid, values=values, judge=policy.forward)


def test_by_hand() -> None:
    # π(s) = (3/4, 1/4), π(f(s)) even; V = 3, V(f(s)) = 1: ln 2 − H(3/4) + ½ · 4
    logits = torch.tensor([[math.log(3.0), 0.0]])
    view = View(
        _frames()[:1],
        logits,
        nn.Identity(),
        logits,
        nn.Identity(),
        values=torch.tensor([3.0]),
        judge=lambda _: (torch.zeros(1, 2), torch.tensor([1.0])),
    )
    divergence = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    output = DrAC()(view)
    assert output.loss.item() == pytest.approx(divergence + 2.0)
    assert output.metrics["policy"].item() == pytest.approx(divergence)
    assert output.metrics["value"].item() == pytest.approx(2.0)
    assert DrAC(value_weight=0.5)(view).loss.item() == pytest.approx(divergence + 1.0)


@pytest.mark.parametrize("augmentation", ["crop", "color"])
def test_matches_a_slow_reference(augmentation: str) -> None:
    policy = _ActorCritic().double()
    view = _view(policy)
    loss = DrAC(augmentation=augmentation, value_weight=0.7)(view).loss  # type: ignore[arg-type]
    logits, values = policy(policy.seen[0])
    for row in range(6):
        p, q = view.logits[row].softmax(0), logits[row].softmax(0)
        expected = sum(p[a] * (p[a].log() - q[a].log()) for a in range(5))
        torch.testing.assert_close(loss[row], expected + 0.7 * 0.5 * (view.values[row] - values[row]) ** 2)  # type: ignore[index]


def test_gradient_is_that_of_the_expected_cross_entropy() -> None:
    # Σ_a π(a | s) · (−log π(a | f(s))) is what the authors estimate with one action.
    policy = _ActorCritic().double()
    view = _view(policy)
    (ours,) = torch.autograd.grad(DrAC(value_weight=0.0)(view).loss.sum(), policy.actor.weight)
    logits, _ = policy(policy.seen[0])
    cross_entropy = -(view.logits.detach().softmax(1) * logits.log_softmax(1)).sum()
    (theirs,) = torch.autograd.grad(cross_entropy, policy.actor.weight)
    torch.testing.assert_close(ours, theirs)


def test_the_clean_look_is_constant_and_the_augmented_one_learns() -> None:
    policy = _ActorCritic()
    view = _view(policy)
    assert view.values is not None
    output = DrAC()(view)
    clean = torch.autograd.grad(output.loss.sum(), [view.logits, view.values], retain_graph=True, allow_unused=True)
    assert clean == (None, None)
    gradients = torch.autograd.grad(output.loss.sum(), list(policy.parameters()))
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert not any(value.requires_grad for value in output.metrics.values())


@pytest.mark.parametrize("augmentation", ["crop", "color"])
def test_frames_stay_frames(augmentation: str) -> None:
    policy = _ActorCritic()
    view = _view(policy)
    before = view.inputs.clone()
    DrAC(augmentation=augmentation)(view)  # type: ignore[arg-type]
    assert policy.seen[0].dtype == torch.uint8 and policy.seen[0].shape == before.shape
    assert torch.equal(view.inputs, before) and not torch.equal(policy.seen[0], before)


def test_agreement_is_zero() -> None:
    policy = _ActorCritic()
    view = _view(policy)
    same = dataclasses.replace(view, judge=lambda _: (view.logits + 5, view.values))
    output = DrAC()(same)
    torch.testing.assert_close(output.loss, torch.zeros(6), atol=1e-6, rtol=0)
    assert output.metrics["disagreement"] == 0


def test_invalid_samples_do_not_count() -> None:
    policy = _ActorCritic()
    valid = torch.tensor([True, True, False, True, False, True])
    view = _view(policy, valid)
    loss = DrAC()(view).loss
    assert (loss[~valid] == 0).all() and (loss[valid] > 0).all()


def test_same_seed_same_loss() -> None:
    def loss() -> Tensor:
        policy = _ActorCritic()
        torch.manual_seed(4)
        return DrAC()(_view(policy)).loss

    assert torch.equal(loss(), loss())


def test_refused_where_there_is_no_critic() -> None:
    message = "method=drac: drac needs values, which segmentation does not have; method=ddgsd compares"
    with pytest.raises(InputError, match=message):
        Distillation({"drac": DrAC()}, name="drac").check_needs({"teacher", "features", "labels"}, "segmentation")


def test_vectors_are_refused_before_training() -> None:
    view = _view(_ActorCritic())
    DrAC().bind(nn.Identity(), view)
    vectors = dataclasses.replace(view, inputs=torch.zeros(6, 4))
    with pytest.raises(InputError, match=r"drac augments frames \[B, C, H, W\]; the observations are \[6, 4\]"):
        DrAC().bind(nn.Identity(), vectors)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": 0}, "pixels=0 must be at least 1"),
        ({"strength": 1.0}, r"strength=1.0 must be in \(0, 1\)"),
        ({"value_weight": -1.0}, "value_weight=-1.0 must not be negative"),
        ({"augmentation": "flip"}, "augmentation='flip' is not known; use one of: crop, color"),
    ],
)
def test_errors_name_the_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DrAC(**options)  # type: ignore[arg-type]
