"""What the two stages before a student is trained have in common: rounds, a state, and what is refused."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.errors import NonFiniteLossError
from common.losses import mean_over_valid
from common.teacher import Teacher


class Sample(NamedTuple):
    """A minibatch of the student's domain.

    Attributes:
        inputs: ``[B, channels, H, W]``, as the student is given them.
        labels: ``int64 [B, *]``.
        valid: ``bool [B, *]``, or ``None`` for all.
    """

    inputs: Tensor
    labels: Tensor
    valid: Tensor | None = None


class Stage(ABC):
    """A training of its own, one round at a time.

    Attributes:
        name: For people, and of its file.
        rounds: How many there are.
        done: How many are over.
        players: What its state consists of.
    """

    name: str
    rounds: int
    done: int
    players: dict[str, nn.Module | torch.optim.Optimizer]

    @abstractmethod
    def round(self, sample: Sample) -> str:
        """Take one; gives what to show of it.

        Raises:
            NonFiniteLossError: naming stage and round.
        """

    def networks(self) -> dict[str, nn.Module]:
        """What is kept of it."""
        return {name: player for name, player in self.players.items() if isinstance(player, nn.Module)}

    def state(self) -> dict[str, Any]:
        """All of it that changes."""
        return {"done": self.done, **{name: player.state_dict() for name, player in self.players.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self.done = state["done"]
        for name, player in self.players.items():
            player.load_state_dict(state[name])

    def _step(self, optimizer: torch.optim.Optimizer, rate: float, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"{self.name}: the loss is {loss.item()} in round {self.done}")
        for group in optimizer.param_groups:
            group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * self.done / self.rounds))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def _heard(self, teacher: Teacher, inputs: Tensor) -> Tensor:
        """The teacher's logits with their graph."""
        logits = teacher.differentiable(inputs)
        if not bool(torch.isfinite(logits).all()):
            raise NonFiniteLossError(
                f"{self.name}: the teacher's logits are not finite on generated samples (round {self.done}); give"
                " another teacher"
            )
        return logits


def adam(module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """The optimiser of both stages."""
    return torch.optim.Adam(module.parameters(), lr=rate, weight_decay=1e-4)


def label_loss(logits: Tensor, sample: Sample) -> Tensor:
    """Cross-entropy with the sample's labels, mean over valid positions."""
    labels = sample.labels if sample.valid is None else sample.labels.masked_fill(~sample.valid, 0)
    return mean_over_valid(F.cross_entropy(logits.float(), labels, reduction="none"), sample.valid)
