"""AuG-KD's losses: by hand, against slow float64 loops, and what cannot change them."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.augkd import losses
from common.augkd.batch_norm import StatisticsDistance

SHAPES = [(6, 4), (2, 3, 4, 5)]


def _logits(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rows(logits: Tensor) -> list[list[float]]:
    """Every position's logits."""
    rows: list[list[float]] = logits.movedim(1, -1).flatten(0, -2).tolist()
    return rows


def _softmax(row: list[float]) -> list[float]:
    powers = [math.exp(value) for value in row]
    return [power / sum(powers) for power in powers]


def test_uncertainty_by_hand() -> None:
    logits = torch.tensor([[math.log(3.0), 0.0]])  # ¾ and ¼
    assert losses.uncertainty(logits, "energy").item() == pytest.approx(-math.log(4))
    entropy = -0.75 * math.log(0.75) - 0.25 * math.log(0.25)
    assert losses.uncertainty(logits, "entropy").item() == pytest.approx(entropy)
    assert losses.uncertainty(logits, "confidence").item() == pytest.approx(0.25)
    # −2 · log(√3 + 1)
    assert losses.uncertainty(logits, "energy", 2.0).item() == pytest.approx(-2 * math.log(math.sqrt(3) + 1))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_uncertainty_matches_a_loop(shape: tuple[int, ...], temperature: float) -> None:
    logits = _logits(shape)
    scaled = [[value / temperature for value in row] for row in _rows(logits)]
    wanted: dict[losses.Uncertainty, list[float]] = {
        "energy": [-temperature * math.log(sum(math.exp(value) for value in row)) for row in scaled],
        "entropy": [-sum(p * math.log(p) for p in _softmax(row)) for row in scaled],
        "confidence": [1 - max(_softmax(row)) for row in scaled],
    }
    for kind, values in wanted.items():
        found = losses.uncertainty(logits, kind, temperature)
        assert found.shape == shape[:1] + shape[2:]
        np.testing.assert_allclose(found.flatten().numpy(), values, rtol=1e-10)


def test_an_offset_of_all_logits_moves_the_energy_alone() -> None:
    logits = _logits((5, 3))
    assert losses.uncertainty(logits + 7, "energy").allclose(losses.uncertainty(logits, "energy") - 7)
    for kind in ("entropy", "confidence"):
        assert losses.uncertainty(logits + 7, kind).allclose(losses.uncertainty(logits, kind))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", SHAPES)
def test_one_hot_and_balance_match_loops(shape: tuple[int, ...]) -> None:
    logits = _logits(shape)
    rows = _rows(logits)
    sure = [-math.log(max(_softmax(row))) for row in rows]
    np.testing.assert_allclose(losses.one_hot_loss(logits).flatten().numpy(), sure, rtol=1e-10)
    wanted = torch.arange(1.0, shape[1] + 1, dtype=torch.float64)
    wanted /= wanted.sum()
    mean = [sum(_softmax(row)[c] for row in rows) / len(rows) for c in range(shape[1])]
    expected = sum(p * math.log(p / q) for p, q in zip(mean, wanted.tolist(), strict=True))
    assert losses.balance_loss(logits, wanted).item() == pytest.approx(expected)


def test_balance_by_hand() -> None:
    # Each sure of another class: their mean is uniform. Both sure of the same one: log 2 away from uniform.
    uniform = torch.tensor([0.5, 0.5])
    assert losses.balance_loss(torch.tensor([[50.0, 0.0], [0.0, 50.0]]), uniform).item() == pytest.approx(0, abs=1e-6)
    assert losses.balance_loss(torch.tensor([[80.0, 0.0], [80.0, 0.0]]), uniform).item() == pytest.approx(math.log(2))


def test_discrepancy_variation_prior_and_budget_by_hand() -> None:
    ours, theirs = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 4.0]])
    assert losses.logit_discrepancy(ours, theirs).item() == 1.5
    assert losses.adversarial_logit_loss(ours, theirs).item() == pytest.approx(-math.log(2.5))
    # Down: |2 − 0| and |5 − 1|, mean 3; right: |1 − 0| and |5 − 2|, mean 2.
    assert losses.total_variation(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]])).item() == 5
    # ½ (1 + 4 − 1 − log 4) + ½ (0 + 1 − 1 − 0)
    mean, log_variance = torch.tensor([[1.0, 0.0]]), torch.tensor([[math.log(4.0), 0.0]])
    assert losses.prior_divergence(mean, log_variance).item() == pytest.approx(0.5 * (4 - math.log(4)))
    # Of each sample: |1 − ¾| and |¼ − ¾|; of the batch's mean it would be ⅛.
    mask = torch.tensor([[1.0, 1.0], [0.25, 0.25]])
    assert losses.budget_loss(mask, 0.25).item() == pytest.approx((0.25 + 0.5) / 2)
    assert losses.mixed(torch.tensor(2.0), torch.tensor(4.0), 0.25).item() == 2.5


def test_prior_matches_torch() -> None:
    mean, log_variance = _logits((3, 5, 2, 2)), _logits((3, 5, 2, 2), 1)
    normal = torch.distributions.Normal
    found = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    assert losses.prior_divergence(mean, log_variance).allclose(found.sum(dim=1).mean())


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    network.train()
    for _ in range(5):
        network(torch.randn(4, 2, 3, 3))
    return network.double().eval()


def test_statistics_distance_matches_a_loop() -> None:
    network, inputs = _network(), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    statistics = StatisticsDistance(network)
    assert statistics.layers == 2
    with statistics.watching():
        network(inputs)
    expected, maps = 0.0, inputs
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            for channel_values in (np.mean, np.var):
                mine = [channel_values(maps[:, channel].detach().numpy()) for channel in range(maps.shape[1])]
                theirs = module.running_mean if channel_values is np.mean else module.running_var
                assert theirs is not None
                expected += math.sqrt(sum((a - b) ** 2 for a, b in zip(mine, theirs.tolist(), strict=True)))
        maps = module(maps)
    assert statistics.distance().item() == pytest.approx(expected)


def test_statistics_have_a_gradient_and_leave_no_hook() -> None:
    network, inputs = _network(), torch.randn(3, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    statistics = StatisticsDistance(network)
    with statistics.watching():
        network(inputs)
    statistics.distance().backward()  # type: ignore[no-untyped-call]
    assert inputs.grad is not None
    assert bool(inputs.grad.any())
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_network_without_memories_has_no_distance() -> None:
    statistics = StatisticsDistance(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)))
    assert statistics.layers == 0
    assert statistics.distance().item() == 0
