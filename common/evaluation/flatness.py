"""How flat the loss is around some weights: how much it rises on average in a random direction.

As the local flatness of SWAD (Cha et al. 2021, arXiv 2102.08604, section 3): E[loss(θ + γ·u)] − loss(θ) with u uniform
on the unit sphere. Ours: γ is a part of ‖θ‖, so that networks of different norms can be compared. Buffers stay.
"""

import copy
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import get_total_norm

REACH, DRAWS = 0.1, 8


@torch.no_grad()
def flatness(
    network: nn.Module,
    loss: Callable[[nn.Module], float],
    reach: float = REACH,
    draws: int = DRAWS,
    seed: int = 0,
) -> float:
    """Mean rise of the loss; less is flatter.

    Args:
        network: Copied, so that its weights stay as they are to the last bit.
        loss: Of a network, on the same data each time.
        reach: γ as a part of the norm of all parameters.
        draws: Directions.
        seed: Of those.
    """
    at, moved = loss(network), copy.deepcopy(network)
    here, there = list(network.parameters()), list(moved.parameters())
    generator = torch.Generator().manual_seed(seed)
    size = reach * float(get_total_norm(here))
    risen = 0.0
    for _ in range(draws):
        direction = [torch.randn(one.shape, generator=generator).to(one) for one in here]
        length = float(get_total_norm(direction))
        for weight, origin, one in zip(there, here, direction, strict=True):
            weight.copy_(origin + one * (size / length))
        risen += loss(moved) - at
    return risen / draws
