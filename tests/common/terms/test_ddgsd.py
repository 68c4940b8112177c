"""DDGSD: its parts by hand, both looks learn, uint8 frames, invalid pixels, and no labels in PPO."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.distillation import Distillation
from common.errors import InputError
from common.losses import symmetric_kl
from common.terms.ddgsd import DDGSD, masked_mean
from common.view import View


class _Net(nn.Module):
    """Two 1×1 convolutions; keeps the inputs it was given."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body, self.head = nn.Conv2d(3, 5, 1), nn.Conv2d(5, 4, 1)
        self.seen: list[Tensor] = []

    def look(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        self.seen.append(inputs)
        inputs = inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs
        features = torch.tanh(self.body(inputs))
        return features, self.head(features)


def _view(net: _Net, inputs: Tensor, targets: Tensor | None = None, valid: Tensor | None = None) -> View:
    features, logits = net.look(inputs)
    net.seen.clear()
    view = View(inputs, features, net.head, logits, lambda x: net.look(x)[1], targets, valid, look=net.look)
    view.features.retain_grad()
    return view


def _images() -> Tensor:
    return torch.randn(3, 3, 6, 5, generator=torch.Generator().manual_seed(1))


def _labels() -> Tensor:
    return torch.randint(4, (3, 6, 5), generator=torch.Generator().manual_seed(2))


def test_by_hand() -> None:
    # Look 1 is even, look 2 is (3/4, 1/4) at T = 1; features 0 and (1, 2): μ · 5; label 0: −ln(3/4).
    zeros = torch.zeros(1, 2, 1, 1)
    second = torch.tensor([math.log(3.0), 0.0]).view(1, 2, 1, 1)
    view = View(
        torch.rand(1, 3, 1, 1),
        zeros,
        nn.Identity(),
        zeros,
        nn.Identity(),
        torch.zeros(1, 1, 1, dtype=torch.int64),
        look=lambda _: (torch.tensor([1.0, 2.0]).view(1, 2, 1, 1), second),
    )
    expected = 0.25 * math.log(3) + 0.1 * 5 + math.log(4 / 3)
    torch.testing.assert_close(DDGSD(temperature=1.0, feature_weight=0.1)(view).loss.item(), expected)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize("feature_weight", [0.0, 0.5])
def test_matches_a_slow_reference(temperature: float, feature_weight: float) -> None:
    net, images, labels = _Net().double(), _images().double(), _labels()
    valid = torch.rand(labels.shape, generator=torch.Generator().manual_seed(3)) > 0.3
    view = _view(net, images, labels, valid)
    loss = DDGSD(temperature=temperature, feature_weight=feature_weight)(view).loss
    features, logits = net.look(net.seen[0])
    for b, i, j in ((b, i, j) for b in range(3) for i in range(6) for j in range(5)):
        if not valid[b, i, j]:
            # The reduction leaves these out; nothing of the other parts may be here.
            continue
        p, q = (z[b, :, i, j].div(temperature).softmax(0) for z in (view.logits, logits))
        divergence = (p * (p / q).log()).sum() + (q * (q / p).log()).sum()
        means = [f[b][:, valid[b]].mean(dim=1) for f in (view.features, features)]
        expected = temperature**2 * divergence - logits[b, :, i, j].log_softmax(0)[labels[b, i, j]]
        expected = expected + feature_weight * (means[0] - means[1]).square().sum()
        torch.testing.assert_close(loss[b, i, j], expected)


def test_gradient_reaches_both_looks_and_not_the_distortion() -> None:
    net = _Net()
    images = _images().requires_grad_()
    view = _view(net, images, _labels())
    view.logits.retain_grad()
    output = DDGSD()(view)
    output.loss.sum().backward()
    assert view.logits.grad is not None and view.logits.grad.abs().sum() > 0
    assert view.features.grad is not None and view.features.grad.abs().sum() > 0
    assert all(parameter.grad is not None for parameter in net.parameters())
    assert not net.seen[0].requires_grad
    assert not any(value.requires_grad for value in output.metrics.values())


def test_no_distortion_leaves_the_tasks_loss_alone() -> None:
    net, labels = _Net(), _labels()
    view = _view(net, _images(), labels)
    output = DDGSD(brightness=0.0, contrast=0.0, noise=0.0)(view)
    torch.testing.assert_close(net.seen[0], view.inputs)
    torch.testing.assert_close(output.loss, F.cross_entropy(view.logits, labels, reduction="none"))
    assert output.metrics["disagreement"] == 0


def test_without_labels_there_is_no_second_task() -> None:
    net = _Net()
    view = _view(net, (255 * torch.rand(3, 3, 6, 5)).to(torch.uint8))
    output = DDGSD(feature_weight=0.0)(view)
    assert net.seen[0].dtype == torch.uint8
    assert "second_task" not in output.metrics
    torch.testing.assert_close(output.loss, 9 * symmetric_kl(view.logits, net.look(net.seen[0])[1], 3.0))


def test_policies_have_vectors() -> None:
    features, logits = torch.randn(4, 7), torch.randn(4, 5)
    view = View(
        torch.randint(256, (4, 3, 8, 8), dtype=torch.uint8),
        features,
        nn.Identity(),
        logits,
        nn.Identity(),
        look=lambda _: (features + 1, logits),
    )
    torch.testing.assert_close(DDGSD(feature_weight=0.5)(view).loss, torch.full((4,), 3.5))


def test_invalid_pixels_do_not_count_even_when_they_overflow() -> None:
    net, labels = _Net(), _labels()
    valid = torch.ones(3, 6, 5, dtype=torch.bool)
    valid[:, 0] = False
    labels[~valid] = 255
    view = _view(net, _images(), labels, valid)
    second = torch.where(valid[:, None], view.logits.detach() + 1, torch.inf).requires_grad_()
    other = dataclasses.replace(view, look=lambda _: (view.features, second))
    total = Distillation({"ddgsd": DDGSD()})(other, torch.zeros(3, 6, 5)).loss
    assert total.isfinite()
    for gradient in torch.autograd.grad(total, [view.logits, second]):
        assert gradient.isfinite().all() and (gradient[:, :, 0] == 0).all()


def test_masked_mean_of_nothing_is_zero() -> None:
    valid = torch.tensor([[True, False], [False, False]])
    means = masked_mean(torch.tensor([[[2.0, 7.0]], [[3.0, 4.0]]]), valid)
    assert means.tolist() == [[2.0], [0.0]]


def test_same_seed_same_loss() -> None:
    def loss() -> Tensor:
        net = _Net()
        torch.manual_seed(7)
        return DDGSD()(_view(net, _images(), _labels())).loss

    assert torch.equal(loss(), loss())


def test_vectors_are_refused_before_training() -> None:
    net = _Net()
    view = _view(net, _images())
    vectors = dataclasses.replace(view, inputs=torch.zeros(3, 4))
    with pytest.raises(InputError, match=r"ddgsd distorts frames \[B, C, H, W\]; the inputs are \[3, 4\]"):
        DDGSD().bind(net, vectors)
    DDGSD().bind(net, view)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, "temperature=0.0 must be positive"),
        ({"feature_weight": -1.0}, "feature_weight=-1.0 must not be negative"),
        ({"brightness": math.nan}, "brightness=nan must not be negative"),
        ({"contrast": 1.0}, r"contrast=1.0 must be in \[0, 1\)"),
        ({"noise": -0.1}, "noise=-0.1 must not be negative"),
    ],
)
def test_errors_name_the_value(options: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DDGSD(**options)
