"""A module without its weights, to be filled again: what an archive keeps beside a ``state_dict``."""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

AnyModule = TypeVar("AnyModule", bound=nn.Module)


def structure_of(module: AnyModule) -> AnyModule:
    """A copy that holds no memory for what ``state_dict`` keeps; ``module`` is left alone.

    Buffers that are not persistent, which no ``state_dict`` gives back, are copied with their values, to the CPU.
    """
    kept = {id(value) for value in module.state_dict(keep_vars=True).values() if isinstance(value, Tensor)}
    return _copied(module, lambda tensor: _elsewhere(tensor, "meta" if id(tensor) in kept else "cpu"))


def filled(structure: AnyModule, device: torch.device | str) -> AnyModule:
    """A copy of a structure on ``device`` with room for what ``state_dict`` keeps; ``structure`` is left alone.

    The room holds no values before ``load_state_dict`` has given it some.
    """
    return _copied(structure, lambda tensor: _elsewhere(tensor, device))


def _elsewhere(tensor: Tensor, device: torch.device | str) -> Tensor:
    # A tensor without values has none to bring along, and on "meta" there is nowhere to keep them.
    if tensor.is_meta or device == "meta":
        return torch.empty_like(tensor, device=device)
    return tensor.detach().to(device, copy=True)


def _copied(module: AnyModule, replace: Callable[[Tensor], Tensor]) -> AnyModule:
    """A copy of ``module`` with other parameters and buffers, shared where its own are shared."""
    memo: dict[int, object] = {id(buffer): replace(buffer) for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(replace(parameter), parameter.requires_grad)
    return copy.deepcopy(module, memo)
