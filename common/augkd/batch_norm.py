"""What a network's BatchNorm layers remember of its training data, as a distance."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from common.losses import full_precision


class StatisticsDistance:
    """``Σ ‖μ − μ̂‖₂ + ‖σ² − σ̂²‖₂`` over BatchNorm layers, between a batch's statistics and those remembered.

    Yin et al., CVPR 2020 (arXiv 1912.08795), equation 4; AuG-KD's generator takes it over.

    Args:
        network: The layers without running statistics, which remember nothing, do not count.

    Attributes:
        layers: How many count.
    """

    def __init__(self, network: nn.Module) -> None:
        self._layers = [
            module for module in network.modules() if isinstance(module, _BatchNorm) and module.running_mean is not None
        ]
        self.layers = len(self._layers)
        self._found: list[Tensor] = []

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, the layers' inputs are looked at; the network must run once, in eval mode."""
        self._found = []
        handles = [layer.register_forward_pre_hook(self._look) for layer in self._layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _look(self, layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        assert layer.running_mean is not None
        assert layer.running_var is not None
        inputs = full_precision(arguments[0]).transpose(0, 1).flatten(1)
        means = torch.linalg.vector_norm(inputs.mean(dim=1) - layer.running_mean)
        variances = torch.linalg.vector_norm(inputs.var(dim=1, unbiased=False) - layer.running_var)
        self._found.append(means + variances)

    def distance(self) -> Tensor:
        """The distance of what was seen last, a scalar with its graph; zero where no layer counts."""
        return torch.stack(self._found).sum() if self._found else torch.zeros(())
