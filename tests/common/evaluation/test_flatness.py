import pytest
import torch
from torch import nn

from common.evaluation.flatness import flatness


def quadratic(curvature: float, size: int = 200) -> tuple[nn.Module, float]:
    network = nn.Linear(size, 1, bias=False)
    nn.init.constant_(network.weight, 2.0)
    return network, curvature


@pytest.mark.parametrize("curvature", [0.5, 3.0])
def test_a_bowl_rises_as_its_curvature_says(curvature: float) -> None:
    network, _ = quadratic(curvature)

    def loss(other: nn.Module) -> float:
        return float(curvature * (other.weight - 2.0).square().sum())  # type: ignore[operator]

    radius = 0.05 * float(network.weight.detach().norm())
    # In whatever direction.
    assert flatness(network, loss, reach=0.05, draws=3) == pytest.approx(curvature * radius**2, rel=1e-4)


def test_the_network_and_the_global_generator_stay() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()

    def loss(other: nn.Module) -> float:
        return float(sum(one.abs().sum() for one in other.parameters()))

    first, again, other = (flatness(network, loss, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
