"""What is done to the frames that a policy is shown: see :data:`kdrl.episodes.See`."""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.evaluation.attacks import Attacker
from common.evaluation.corruptions import corrupt


@dataclasses.dataclass
class Corrupting:
    """Shows corrupted frames; what is drawn depends on the environment and the step."""

    name: str
    severity: int

    def __call__(self, observations: NDArray[np.uint8], environments: NDArray[np.intp], step: int) -> Tensor:
        """``uint8 [N, 3, 64, 64]`` → the same, of the environments with these numbers."""
        changed = [
            corrupt(frame.transpose(1, 2, 0), self.name, self.severity, (int(number), step))[0].transpose(2, 0, 1)
            for frame, number in zip(observations, environments, strict=True)
        ]
        return torch.from_numpy(np.stack(changed))


@dataclasses.dataclass
class Attacking:
    """Shows frames that were changed against the action that the policy would most probably choose.

    Attributes:
        frames: How many were shown.
        missed: On how many of them it would now choose another.
    """

    policy: nn.Module
    attacker: Attacker
    radius: float
    frames: int = 0
    missed: int = 0

    def __call__(self, observations: NDArray[np.uint8], environments: NDArray[np.intp], step: int) -> Tensor:
        """``uint8 [N, 3, 64, 64]`` → ``float32``, in the range of frames."""
        inputs = torch.as_tensor(observations, device=next(self.policy.parameters()).device).float()
        with torch.no_grad():
            chosen = self.policy(inputs).argmax(dim=1)
        ((_, changed),) = self.attacker.sweep(self.policy, inputs, chosen, None, [self.radius])
        with torch.no_grad():
            self.missed += int((self.policy(changed).argmax(dim=1) != chosen).sum())
        self.frames += len(inputs)
        return changed
