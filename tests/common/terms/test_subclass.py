"""Subclasses: log-sum-exp, diversity by hand and at its ends, the head's gradient, sizes, and its state."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn

from common.distillation import Distillation
from common.errors import InputError
from common.terms.subclass import Subclass, class_logits, diversity
from common.view import View


def _view(features: Tensor, classes: int, grid: tuple[int, ...] | None = None, valid: Tensor | None = None) -> View:
    positions = features.shape[2:] if grid is None else grid
    logits = torch.zeros(len(features), classes, *positions)
    targets = torch.randint(classes, (len(features), *positions), generator=torch.Generator().manual_seed(1))
    return View(features, features, nn.Identity(), logits, nn.Identity(), targets, valid)


def _bound(view: View, **options: float) -> Subclass:
    torch.manual_seed(0)
    term = Subclass(**options)  # type: ignore[arg-type]
    term.bind(nn.Identity(), view)
    return term


def _features(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_class_logits_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 4.0]]).log()
    both = torch.cat([logits, torch.zeros(1, 3)], dim=1)
    torch.testing.assert_close(class_logits(both, 2), torch.tensor([[math.log(7), math.log(3)]]))


@pytest.mark.parametrize("shape", [(4, 6), (2, 6, 3, 5)])
def test_class_probabilities_are_sums_of_the_subclasses(shape: tuple[int, ...]) -> None:
    logits = _features(*shape).double()
    parts = logits.softmax(1)
    expected = torch.stack([parts[:, :2].sum(1), parts[:, 2:4].sum(1), parts[:, 4:].sum(1)], dim=1)
    torch.testing.assert_close(class_logits(logits, 3).softmax(1), expected)


def test_diversity_by_hand() -> None:
    # made mean 0 and length 1 the rows are (1, −1)/√2 and its negative: ½ Σ log(e + 1/e) − 1 − log 2
    rows = torch.tensor([[5.0, 3.0], [0.0, 1.0]])
    expected = math.log(math.e + 1 / math.e) - 1 - math.log(2)
    assert diversity(rows, 1.0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_diversity_matches_a_slow_reference(temperature: float) -> None:
    rows = _features(7, 6).double()
    total = 0.0
    units = []
    for row in rows:
        centred = row - row.mean()
        units.append(centred / centred.norm())
    for a in units:
        total += math.log(sum(math.exp((a @ b).item() / temperature) for b in units))
    expected = total / 7 - 1 / temperature - math.log(7)
    assert diversity(rows, temperature).item() == pytest.approx(expected, rel=1e-6)


def test_diversity_is_largest_and_zero_where_all_are_alike() -> None:
    row = _features(1, 6)
    alike = row * torch.tensor([[1.0], [3.0], [0.5]]) + torch.tensor([[0.0], [2.0], [-1.0]])
    assert diversity(alike, 0.5).item() == pytest.approx(0.0, abs=1e-5)
    assert diversity(_features(9, 6), 0.5).item() < -0.1
    # equal logits have no direction; they must not make the gradient infinite
    flat = torch.zeros(3, 6, requires_grad=True)
    (gradient,) = torch.autograd.grad(diversity(flat, 0.5), flat)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("shape", [(8, 5), (2, 5, 4, 3)])
@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_matches_its_parts(shape: tuple[int, ...], weight: float) -> None:
    view = _view(_features(*shape).double(), 3)
    term = _bound(view, subclasses=2, diversity=weight).double()
    loss = term(view).loss
    flat = view.features.movedim(1, -1) @ term.head.weight[..., 0].T + term.head.bias
    assert view.targets is not None
    probabilities = flat.softmax(-1).unflatten(-1, (3, 2)).sum(-1)
    expected = -probabilities.gather(-1, view.targets[..., None])[..., 0].log()
    expected = expected + weight * diversity(flat.flatten(0, -2), 1.0)
    torch.testing.assert_close(loss, expected)


def test_trunk_and_head_learn() -> None:
    features = _features(2, 5, 4, 4).requires_grad_()
    view = _view(features, 3)
    term = _bound(view)
    output = term(view)
    gradients = torch.autograd.grad(output.loss.sum(), [features, *term.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients)
    assert Distillation({"subclass": term}).trainable_parameters() == list(term.parameters())
    assert not any(value.requires_grad for value in output.metrics.values())


def test_training_the_head_learns_classes_and_uses_subclasses() -> None:
    torch.manual_seed(0)
    # Four blobs, two of either class: the subclasses are there to be found.
    centres = torch.tensor([[3.0, 0], [0, 3.0], [-3.0, 0], [0, -3.0]])
    blob = torch.arange(160) % 4
    features = centres[blob] + 0.3 * torch.randn(160, 2)
    view = dataclasses.replace(_view(features, 2), targets=blob // 2)
    term = _bound(view, subclasses=2)
    optimizer = torch.optim.Adam(term.parameters(), lr=0.05)
    for _ in range(120):
        optimizer.zero_grad()
        term(view).loss.mean().backward()
        optimizer.step()
    metrics = term(view).metrics
    assert metrics["accuracy"] > 0.95 and metrics["subclasses_used"] == 1
    assert metrics["diversity"] < -0.3


def test_a_coarser_head_is_brought_to_the_labels_size() -> None:
    view = _view(_features(2, 5, 4, 3), 3, (8, 6))
    output = _bound(view)(view)
    assert output.loss.shape == (2, 8, 6)


def test_invalid_pixels_do_not_count() -> None:
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    valid[0] = False
    features = _features(2, 5, 4, 4).requires_grad_()
    view = _view(features, 3, valid=valid)
    assert view.targets is not None
    view.targets[~valid] = 255
    term = _bound(view, positions=6)
    total = Distillation({"subclass": term})(view, torch.zeros(2, 4, 4)).loss
    (gradient,) = torch.autograd.grad(total, features)
    assert (gradient[0] == 0).all() and (gradient[1] != 0).any()
    nothing = dataclasses.replace(view, valid=torch.zeros_like(valid))
    assert Distillation({"subclass": term})(nothing, torch.zeros(2, 4, 4)).loss == 0


def test_state_and_seed() -> None:
    view = _view(_features(8, 5), 3)
    term, other = _bound(view), Subclass()
    other.bind(nn.Identity(), view)
    other.load_state_dict(term.state_dict())
    assert torch.equal(term(view).loss, other(view).loss)
    assert torch.equal(_bound(view).head.weight, term.head.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subclasses": 1}, "subclasses=1 must be at least 2"),
        ({"positions": 1}, "positions=1 must be at least 2"),
        ({"diversity": -1.0}, "diversity=-1.0 must not be negative"),
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
    ],
)
def test_errors_name_the_value(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Subclass(**options)  # type: ignore[arg-type]
