"""BYOT: the total against a plain reference, gradients that stop where they should, saved classifiers."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.terms.byot import BYOT, Exit, squared_distance
from common.view import View


class _Network(nn.Module):
    """Two stages, deep features and a head, as maps; with ``pooled``, a label a sample."""

    def __init__(self, pooled: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.shallow = nn.Conv2d(3, 5, 3, stride=2, padding=1)
        self.deep = nn.Conv2d(5, 6, 3, stride=2, padding=1)
        self.last = nn.Conv2d(6, 4, 1)
        self.head = nn.Linear(4, 3) if pooled else nn.Conv2d(4, 3, 1)
        self.pooled = pooled
        self.double()

    def view(self, inputs: Tensor, targets: Tensor | None = None, valid: Tensor | None = None) -> View:
        first = self.shallow(inputs).relu()
        second = self.deep(first).relu()
        features = self.last(second).relu()
        features = features.mean(dim=(2, 3)) if self.pooled else F.interpolate(features, scale_factor=2)
        logits = self.head(features)
        if not self.pooled:
            logits = F.interpolate(logits, size=inputs.shape[2:], mode="bilinear", align_corners=True)
        return View(
            inputs=inputs,
            features=features,
            head=self.head,
            logits=logits,
            forward=lambda x: self.view(x).logits,
            targets=targets,
            valid=valid,
            stages=[first, second],
        )


def _inputs() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _targets(pooled: bool) -> Tensor:
    return torch.randint(3, (2,) if pooled else (2, 8, 8), generator=torch.Generator().manual_seed(2))


def _bound(network: _Network, **settings: float) -> BYOT:
    term = BYOT(**settings)
    torch.manual_seed(3)
    term.bind(network, network.view(_inputs()))
    return term.double()


def test_squared_distance_by_hand() -> None:
    features = torch.tensor([[[[1.0, 2.0]], [[0.0, 5.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    target = torch.tensor([[[[1.0, 0.0]], [[3.0, 5.0]]], [[[1.0, 1.0]], [[1.0, 1.0]]]])
    assert squared_distance(features, target).tolist() == [13.0, 4.0]
    valid = torch.tensor([[[True, False]], [[False, True]]])
    assert squared_distance(features, target, valid).tolist() == [9.0, 2.0]
    # A target of twice the grid is averaged onto it.
    assert squared_distance(features, target.repeat_interleave(2, dim=3)).tolist() == [13.0, 4.0]
    assert squared_distance(torch.zeros(1, 2), torch.ones(1, 2, 3, 3)).tolist() == [2.0]


def test_by_hand() -> None:
    # Classifiers that answer nothing but zero: CE = log 2; the network says (3/4, 1/4) at T = 2;
    # F_i = 0 and F = (1, 2), so ‖F_i − F‖² = 5. α = ¼, β = .1, one exit.
    logits = torch.tensor([[2 * math.log(3.0), 0.0]])
    features = torch.tensor([[1.0, 2.0]])
    view = View(
        inputs=features,
        features=features,
        head=nn.Identity(),
        logits=logits,
        forward=nn.Identity(),
        targets=torch.tensor([1]),
        stages=[torch.ones(1, 3, 2, 2)],
    )
    term = BYOT(alpha=0.25, temperature=2.0, beta=0.1)
    term.bind(nn.Identity(), view)
    for parameter in term.parameters():
        nn.init.zeros_(parameter)
    divergence = 4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    expected = 0.75 * math.log(2.0) + 0.25 * divergence + 0.1 * 5
    output = term(view)
    torch.testing.assert_close(output.loss, torch.tensor([expected]))
    assert output.metrics["exit_0"].item() == pytest.approx(math.log(2.0))
    assert output.metrics["hint"].item() == pytest.approx(5.0)


@pytest.mark.parametrize("pooled", [False, True])
def test_total_is_the_papers(pooled: bool) -> None:
    network, targets = _Network(pooled), _targets(pooled)
    alpha, temperature, beta = 0.2, 3.0, 1e-2
    term = _bound(network, alpha=alpha, temperature=temperature, beta=beta)
    view = network.view(_inputs(), targets)
    task = F.cross_entropy(view.logits, targets, reduction="none")
    total = Distillation({"byot": term}, task_weight=1 - alpha)(view, task).loss

    expected = (1 - alpha) * F.cross_entropy(view.logits, targets)
    q = (view.logits.detach() / temperature).softmax(dim=1)
    assert view.stages is not None
    for exit_, stage in zip(term.exits, view.stages, strict=True):
        assert isinstance(exit_, Exit)
        features = exit_.adapter(stage.mean(dim=(2, 3)) if pooled else stage)
        early = exit_.classifier(features.relu())
        deep = view.features.detach()
        if not pooled:
            early = F.interpolate(early, size=(8, 8), mode="bilinear", align_corners=False)
            deep = F.avg_pool2d(deep, deep.shape[-1] // features.shape[-1])
        expected = expected + (1 - alpha) * F.cross_entropy(early, targets)
        log_p = (early / temperature).log_softmax(dim=1)
        expected = expected + alpha * temperature**2 * (q * (q.log() - log_p)).sum(dim=1).mean()
        expected = expected + beta * (features - deep).square().sum() / len(features)
    torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("pooled", [False, True])
def test_gradient_reaches_stages_and_classifiers_but_not_their_targets(pooled: bool) -> None:
    network, targets = _Network(pooled), _targets(pooled)
    term = _bound(network, beta=0.1)
    term(network.view(_inputs(), targets)).loss.sum().backward()
    reached = {name: parameter.grad is not None for name, parameter in network.named_parameters()}
    assert all(reached[name] for name in reached if name.startswith(("shallow", "deep")))
    assert not any(reached[name] for name in reached if name.startswith(("last", "head")))
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in term.parameters())


def test_the_classifiers_are_trained_with_the_student() -> None:
    network = _Network(False)
    method = Distillation({"byot": _bound(network)}, task_weight=0.9)
    parameters = method.trainable_parameters()
    assert len(parameters) == 2 * 4
    optimiser = torch.optim.SGD([*network.parameters(), *parameters], lr=0.1)
    losses = []
    for _ in range(15):
        view = network.view(_inputs(), _targets(False))
        output = method(view, F.cross_entropy(view.logits, _targets(False), reduction="none"))
        optimiser.zero_grad()
        output.loss.backward()
        optimiser.step()
        losses.append(output.metrics["byot/exit_0"])
    assert losses[-1] < losses[0]


def test_zero_where_the_classifiers_agree_with_the_network() -> None:
    # α = 1 leaves divergence and distance: both vanish where an exit computes what the network does.
    network = _Network(True)
    view = network.view(_inputs(), _targets(True))
    view = dataclasses.replace(view, stages=[view.features.detach()])
    term = BYOT(alpha=1.0, beta=1.0)
    term.bind(network, view)
    term.double()
    exit_ = term.exits[0]
    assert isinstance(exit_, Exit)
    with torch.no_grad():
        exit_.adapter.weight.copy_(torch.eye(4))
        exit_.adapter.bias.zero_()  # type: ignore[union-attr]
    exit_.classifier.load_state_dict(network.head.state_dict())
    torch.testing.assert_close(term(view).loss, torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_invalid_positions_do_not_count() -> None:
    network, targets = _Network(False), _targets(False)
    valid = torch.ones(2, 8, 8, dtype=torch.bool)
    valid[:, :, 4:] = False
    term = _bound(network, beta=0.1)
    values = []
    for ignored in (255, 254):
        view = network.view(_inputs(), targets.masked_fill(~valid, ignored), valid)
        hidden = view.logits.masked_fill(~valid.unsqueeze(1), math.inf if ignored == 255 else -7.0)
        view = dataclasses.replace(view, logits=hidden)
        task = torch.zeros(2, 8, 8, dtype=torch.float64)
        loss = Distillation({"byot": term})(view, task).loss
        gradient = torch.autograd.grad(loss, list(term.parameters()))
        assert all(part.isfinite().all() for part in gradient)
        values.append((loss.detach(), gradient))
    assert torch.equal(values[0][0], values[1][0]) and values[0][0].isfinite()
    torch.testing.assert_close(values[0][1], values[1][1], rtol=0, atol=0)


def test_state_is_saved_and_restored_bit_for_bit() -> None:
    network = _Network(False)
    saved = _bound(network)
    loaded = BYOT()
    torch.manual_seed(9)
    loaded.bind(network, network.view(_inputs()))
    loaded.double()
    view = network.view(_inputs(), _targets(False))
    assert not torch.equal(saved(view).loss, loaded(view).loss)
    loaded.load_state_dict(saved.state_dict())
    assert torch.equal(saved(view).loss, loaded(view).loss)


def test_binding_is_seeded() -> None:
    network = _Network(False)
    view = network.view(_inputs())
    first, second = BYOT(), BYOT()
    torch.manual_seed(4)
    first.bind(network, view)
    torch.manual_seed(4)
    second.bind(network, view)
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_needs() -> None:
    with pytest.raises(InputError, match="byot needs labels, stages, which PPO does not have"):
        Distillation({"byot": BYOT()}).check_needs({"teacher", "features"}, "PPO")
    with pytest.raises(RuntimeError, match=r"BYOT\.bind"):
        BYOT()(_Network(True).view(_inputs(), _targets(True)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -0.1}, r"alpha=-0\.1 must be in \[0, 1\]"),
        ({"alpha": math.nan}, r"alpha=nan must be in \[0, 1\]"),
        ({"temperature": 0.0}, r"temperature=0\.0 must be positive"),
        ({"beta": -1.0}, r"beta=-1\.0 must not be negative"),
    ],
)
def test_values_out_of_range(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BYOT(**settings)
