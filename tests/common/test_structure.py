"""A module's structure: room where weights were, and the values that no state_dict gives back."""

import copy
import pickle

import torch
from torch import Tensor, nn

from common.structure import filled, structure_of


class Tied(nn.Module):
    """Two layers with one weight, a frozen one, and a buffer of either kind."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.ModuleList([nn.Linear(40, 40), nn.Linear(40, 40), nn.BatchNorm1d(40)])
        self.layers[1].weight = self.layers[0].weight
        self.layers[1].requires_grad_(False)
        self.register_buffer("kept", torch.randn(40))
        self.register_buffer("fixed", torch.randn(40), persistent=False)
        self.kept: Tensor
        self.fixed: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs * self.kept + self.fixed


def test_weights_travel_by_state_dict_and_the_rest_by_structure() -> None:
    module, inputs = Tied().eval(), torch.randn(3, 40)
    before = copy.deepcopy(module)
    structure = structure_of(module)
    assert len(pickle.dumps(structure)) < len(pickle.dumps(module)) / 2
    rebuilt = filled(pickle.loads(pickle.dumps(structure)), "cpu")
    rebuilt.load_state_dict(module.state_dict())
    assert torch.equal(rebuilt(inputs), module(inputs)) and not rebuilt.training
    assert torch.equal(module(inputs), before(inputs))


def test_only_what_state_dict_keeps_is_left_out() -> None:
    structure = structure_of(Tied())
    assert structure.fixed.device.type == "cpu" and structure.kept.is_meta
    assert all(parameter.is_meta for parameter in structure.parameters())


def test_ties_and_freezing_outlast_both_ways() -> None:
    module = Tied()
    rebuilt = filled(structure_of(module), "cpu")
    assert rebuilt.layers[0].weight is rebuilt.layers[1].weight
    asked = [parameter.requires_grad for parameter in module.parameters()]
    assert [parameter.requires_grad for parameter in rebuilt.parameters()] == asked
    assert False in asked and True in asked


def test_a_structure_can_be_filled_again() -> None:
    structure = structure_of(Tied())
    first, second = filled(structure, "cpu"), filled(structure, "cpu")
    first.fixed.zero_()
    assert second.fixed.abs().sum() > 0 and structure.kept.is_meta
