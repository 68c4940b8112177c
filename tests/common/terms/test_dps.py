"""DPS: the recursion by hand, both memories, how the label fades, state."""

import dataclasses
import itertools
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.terms.dps import DPS, evidence, prior
from common.view import View


def _view(logits: Tensor, targets: Tensor, index: Tensor | None = None, valid: Tensor | None = None) -> View:
    return View(logits, logits, nn.Identity(), logits, nn.Identity(), targets, valid, index)


class _Constant(nn.Module):
    """Answers with the same logits to everything."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([logits]))

    def forward(self, inputs: Tensor) -> Tensor:
        return self.logits.expand(len(inputs), -1)


def _samples(view: View, **options: float) -> DPS:
    term = DPS(memory="samples", samples=5, **options)  # type: ignore[arg-type]
    term.bind(nn.Identity(), view)
    return term


def test_prior_and_evidence_by_hand() -> None:
    assert prior(torch.tensor([1]), 3, 5.0, 0.5).tolist() == [[0.5, 5.0, 0.5]]
    assert evidence(3, 0.5) == pytest.approx(1.75) and evidence(3, 1.0) == 3.0


def test_samples_by_hand() -> None:
    # α₀ = (3, 1), p = (¼, ¾): the targets are (¾, ¼), then of (1.75, 1.25), then of (1.125, 1.375)
    logits = torch.tensor([[0.0, math.log(3.0)]])
    view = _view(logits, torch.tensor([0]), torch.tensor([4]))
    term = _samples(view, concentration=3.0, epsilon=1.0, discount=0.5)
    p = torch.tensor([0.25, 0.75])
    for alpha in ([3.0, 1.0], [1.75, 1.25], [1.125, 1.375]):
        target = torch.tensor(alpha) / sum(alpha)
        output = term(view)
        torch.testing.assert_close(output.loss, -(target * p.log()).sum()[None])
        assert output.metrics["label_probability"].item() == pytest.approx(target[0].item())
    assert (term.alpha[:4] == 0).all()  # samples not seen


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3, 2)])
@pytest.mark.parametrize("discount", [0.8, 1.0])
def test_samples_match_a_slow_reference(shape: tuple[int, ...], discount: float) -> None:
    generator = torch.Generator().manual_seed(0)
    targets = torch.randint(4, shape[:1] + shape[2:], generator=generator)
    term = _samples(_view(torch.zeros(shape), targets, torch.arange(5)), discount=discount).double()
    past: list[Tensor] = []
    for _ in range(4):
        logits = torch.randn(shape, generator=generator, dtype=torch.float64)
        order = torch.randperm(5, generator=generator)
        loss = term(_view(logits[order], targets[order], order)).loss
        age = len(past)
        alpha = discount**age * prior(targets, 4, 10.0, 0.01).double()
        alpha = alpha + sum(discount ** (age - 1 - i) * p for i, p in enumerate(past))
        expected = -(alpha / alpha.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1)
        torch.testing.assert_close(loss, expected[order], rtol=1e-5, atol=1e-6)
        past.append(logits.softmax(1))


def test_evaluation_leaves_the_samples_alone() -> None:
    view = _view(torch.zeros(2, 3), torch.tensor([0, 1]), torch.tensor([0, 1]))
    term = _samples(view).eval()
    term(view)
    assert (term.alpha == 0).all()


@pytest.mark.parametrize("discount", [0.7, 1.0])
def test_the_networks_average_weighs_epochs_as_predictions_would_be(discount: float) -> None:
    network = _Constant([0.0, 0.0])
    view = _view(torch.zeros(3, 2), torch.tensor([0, 1, 0]))
    term = DPS(discount=discount)
    term.bind(network, view)
    seen = []
    for logit in (2.0, -1.0, 0.5):
        with torch.no_grad():
            network.logits.copy_(torch.tensor([[logit, 0.0]]))
        seen.append(logit)
        term.after_epoch(network, 0.0)
    weights = [discount ** (2 - i) for i in range(3)]
    mean = sum(w * z for w, z in zip(weights, seen, strict=True)) / sum(weights)
    torch.testing.assert_close(term.average.network.logits, torch.tensor([[mean, 0.0]]))  # type: ignore[arg-type]
    past = torch.tensor([mean, 0.0]).softmax(0)
    alpha = discount**3 * prior(view.targets, 2, 10.0, 0.01) + sum(weights) * past  # type: ignore[arg-type]
    target = alpha / alpha.sum(1, keepdim=True)
    view = dataclasses.replace(view, logits=torch.randn(3, 2))
    torch.testing.assert_close(term(view).loss, -(target * view.logits.log_softmax(1)).sum(1))


def test_a_constant_network_gives_the_same_targets_in_both_memories() -> None:
    network = _Constant([1.0, -1.0, 0.5])
    inputs = torch.zeros(4, 3)
    targets, index = torch.tensor([0, 1, 2, 0]), torch.tensor([3, 0, 1, 4])
    view = View(inputs, inputs, nn.Identity(), network(inputs), network, targets, None, index)
    samples, average = _samples(view), DPS()
    average.bind(network, view)
    for _ in range(5):
        torch.testing.assert_close(samples(view).loss, average(view).loss)
        average.after_epoch(network, 0.0)


def test_at_first_the_target_is_nearly_the_label_and_then_it_fades() -> None:
    network = _Constant([0.0] * 4)
    view = _view(torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 0, 1]))
    term = DPS(epsilon=1e-6)
    term.bind(network, view)
    assert view.targets is not None
    torch.testing.assert_close(term(view).loss, F.cross_entropy(view.logits, view.targets, reduction="none"))
    probabilities = []
    for _ in range(200):
        probabilities.append(term(view).metrics["label_probability"].item())
        term.after_epoch(network, 0.0)
    assert all(later < earlier + 1e-7 for earlier, later in itertools.pairwise(probabilities))
    assert probabilities[-1] == pytest.approx(0.25, abs=1e-6)


def test_gradient_reaches_the_prediction_alone() -> None:
    network = _Constant([0.3, 0.0])
    inputs = torch.zeros(3, 2)
    view = View(inputs, inputs, nn.Identity(), network(inputs), network, torch.tensor([0, 1, 0]))
    term = DPS()
    term.bind(network, view)
    term.after_epoch(network, 0.0)
    output = term(view)
    output.loss.sum().backward()
    assert network.logits.grad is not None and network.logits.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in term.parameters())
    assert Distillation({"dps": term}).trainable_parameters() == []
    assert not any(value.requires_grad for value in output.metrics.values())


def test_invalid_pixels_do_not_count() -> None:
    valid = torch.ones(2, 3, 2, dtype=torch.bool)
    valid[0] = False
    logits = torch.randn(2, 4, 3, 2).requires_grad_()
    targets = torch.randint(4, (2, 3, 2))
    targets[~valid] = 255
    view = _view(logits, targets, torch.tensor([0, 1]), valid)
    loss = _samples(view)(view).loss
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert (loss[0] == 0).all() and (gradient[0] == 0).all() and (gradient[1] != 0).any()


@pytest.mark.parametrize("memory", ["network", "samples"])
def test_state_continues_bit_for_bit(memory: str) -> None:
    network = _Constant([1.0, 0.0, -1.0])
    view = _view(torch.randn(3, 3), torch.tensor([0, 1, 2]), torch.tensor([2, 0, 1]))

    def fresh() -> DPS:
        term = DPS(memory=memory, samples=3)  # type: ignore[arg-type]
        term.bind(network, view)
        return term

    term, resumed = fresh(), fresh()
    for _ in range(3):
        term(view)
        term.after_epoch(network, 0.0)
    resumed.load_state_dict(term.state_dict())
    assert torch.equal(term(view).loss, resumed(view).loss)
    assert all(
        torch.equal(a, b) for a, b in zip(term.state_dict().values(), resumed.state_dict().values(), strict=True)
    )


def test_samples_need_an_index() -> None:
    with pytest.raises(InputError, match="memory=samples needs index; use memory=network"):
        _samples(_view(torch.zeros(2, 3), torch.tensor([0, 1])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epsilon": 0.0}, "epsilon=0.0 must be positive"),
        ({"concentration": 0.001}, "epsilon=0.01 must be less than concentration=0.001"),
        ({"discount": 0.0}, r"discount=0.0 must be in \(0, 1\]"),
        ({"memory": "disk"}, "memory='disk' is not known; use one of: network, samples"),
        ({"memory": "samples"}, "samples=0 must be the number of training samples"),
    ],
)
def test_errors_name_the_value(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DPS(**options)  # type: ignore[arg-type]
