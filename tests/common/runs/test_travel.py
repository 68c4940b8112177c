import copy

import pytest
import torch
from torch import nn

from common.runs.travel import Travel


def walk(network: nn.Module, optimizer: torch.optim.Optimizer, steps: int, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        optimizer.zero_grad()
        network(torch.randn(4, 3, generator=generator)).square().mean().backward()
        optimizer.step()


def test_by_hand() -> None:
    weight = nn.Parameter(torch.tensor([3.0, 4.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    travel = Travel()
    assert travel.distance is None
    travel.follow(optimizer, [weight])
    assert travel.distance == 0.0
    for gradient in ([0.0, 1.0], [0.0, -1.0], [1.5, 2.0]):  # there, back, and two and a half
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    assert travel.distance == pytest.approx((1 + 1 + 2.5) / 5)


def test_as_by_brute_force_and_training_is_the_same() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2))
    network[0].bias.requires_grad_(False)
    alone = copy.deepcopy(network)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.1)
    travel = Travel()
    travel.follow(optimizer, network.parameters())
    flat = nn.utils.parameters_to_vector([one for one in network.parameters() if one.requires_grad])
    origin, before, length = flat.norm().item(), flat.detach().clone(), 0.0
    for step in range(6):
        walk(network, optimizer, 1, step)
        flat = nn.utils.parameters_to_vector([one for one in network.parameters() if one.requires_grad])
        length += (flat - before).norm().item()
        before = flat.detach().clone()
    assert travel.distance == pytest.approx(length / origin, rel=1e-5)
    other = torch.optim.Adam(alone.parameters(), lr=0.1)
    for step in range(6):
        walk(alone, other, 1, step)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), alone.parameters(), strict=True))


def test_an_interrupted_way_is_as_long_as_a_whole_one() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    travel = Travel()
    travel.follow(optimizer, network.parameters())
    walk(network, optimizer, 3)
    state, kept = travel.state(), copy.deepcopy(network)
    walk(network, optimizer, 2, 1)
    again = Travel()
    again.load(state)
    optimizer = torch.optim.SGD(kept.parameters(), lr=0.1)
    again.follow(optimizer, kept.parameters())
    walk(kept, optimizer, 2, 1)
    assert again.distance == travel.distance


def test_weights_that_are_all_zero_have_no_length_to_compare_with() -> None:
    network = nn.Linear(2, 1)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    travel = Travel()
    travel.follow(torch.optim.SGD(network.parameters(), lr=0.1), network.parameters())
    assert travel.distance is None
    assert Travel().state() == {}
