"""Four rooms with doors that differ from level to level: small enough to train in a minute, with levels to hold out.

The setting of Weltevrede et al. (arXiv 2505.16581) in size and kind; not their environment: the observation here is a
flat picture of three planes and there are four moves instead of turns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn
from torch.nn import functional as F

SIDE = 9
MOVES = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
TIME_LIMIT = 40


def make_levels(count: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Walls ``[count, SIDE, SIDE]``, goals and starts ``[count, 2]``: levels of a seed share nothing but chance."""
    generator = np.random.default_rng(seed)
    walls = np.zeros((count, SIDE, SIDE), dtype=np.bool_)
    walls[:, [0, -1]] = walls[:, :, [0, -1]] = True
    middle = SIDE // 2
    walls[:, middle] = walls[:, :, middle] = True
    cells = np.zeros((2, count, 2), dtype=np.int64)
    for level in range(count):
        for first in (1, middle + 1):
            walls[level, middle, generator.integers(first, first + middle - 1)] = False
            walls[level, generator.integers(first, first + middle - 1), middle] = False
        free = np.argwhere(~walls[level])
        cells[:, level] = free[generator.choice(len(free), 2, replace=False)]
    return walls, cells[0], cells[1]


def draw(walls: NDArray[np.bool_], agent: NDArray[np.int64], goal: NDArray[np.int64]) -> NDArray[np.float32]:
    """Observations ``[N, 3 · SIDE²]`` of these positions."""
    planes = np.zeros((len(walls), 3, SIDE, SIDE), dtype=np.float32)
    rows = np.arange(len(walls))
    planes[:, 0] = walls
    planes[rows, 1, agent[:, 0], agent[:, 1]] = 1
    planes[rows, 2, goal[:, 0], goal[:, 1]] = 1
    return planes.reshape(len(walls), -1)


class ShortestPath(nn.Module):
    """The policy that a teacher would converge to: from observations ``[N, 3 · SIDE²]`` to logits of moves ``[N, 4]``.

    A move's logit is -10 times the steps from where it leads to the goal, so that good moves are shared equally and a
    detour has probability ``exp(-20)``.
    """

    def forward(self, observations: Tensor) -> Tensor:
        planes = observations.reshape(-1, 3, SIDE, SIDE)
        walls, cell = planes[:, 0] > 0, planes[:, 1].flatten(1).argmax(1)
        far = float(SIDE**2)
        distance = torch.where(planes[:, 2] > 0, 0.0, far)
        for _ in range(SIDE**2):
            nearer = torch.where(walls, far, torch.minimum(distance, _neighbours(distance, far).amin(1) + 1))
            if torch.equal(nearer, distance):
                break
            distance = nearer
        around = _neighbours(distance, far).flatten(2)
        return -10 * around.gather(2, cell[:, None, None].expand(-1, len(MOVES), 1))[..., 0]


def _neighbours(values: Tensor, outside: float) -> Tensor:
    """What lies in the direction of each move: ``[N, SIDE, SIDE]`` → ``[N, 4, SIDE, SIDE]``."""
    padded = F.pad(values, (1, 1, 1, 1), value=outside)
    return torch.stack(
        [padded[:, 1 + down : 1 + down + SIDE, 1 + right : 1 + right + SIDE] for down, right in MOVES.tolist()], dim=1
    )


class FourRooms(VecEnv):
    """Find the goal: reward 1 there, and the episode ends, as it does after ``TIME_LIMIT`` steps."""

    def __init__(self, num_envs: int, levels: tuple[NDArray[Any], ...], seed: int = 0) -> None:
        self.render_mode = None
        self.walls, self.goals, self.starts = levels
        self.generator = np.random.default_rng(seed)
        self.level = np.zeros(num_envs, dtype=np.int64)
        self.agent = np.zeros((num_envs, 2), dtype=np.int64)
        self.steps = np.zeros(num_envs, dtype=np.int64)
        super().__init__(num_envs, spaces.Box(0, 1, (3 * SIDE**2,), np.float32), spaces.Discrete(len(MOVES)))

    def _begin(self, which: NDArray[np.intp]) -> None:
        self.level[which] = self.generator.integers(len(self.walls), size=len(which))
        self.agent[which] = self.starts[self.level[which]]
        self.steps[which] = 0

    def _observe(self) -> NDArray[np.float32]:
        return draw(self.walls[self.level], self.agent, self.goals[self.level])

    def reset(self) -> NDArray[np.float32]:
        self._begin(np.arange(self.num_envs))
        return self._observe()

    def step_async(self, actions: NDArray[Any]) -> None:
        self.actions = actions

    def step_wait(self) -> Any:
        target = self.agent + MOVES[self.actions]
        blocked = self.walls[self.level, target[:, 0], target[:, 1]]
        self.agent = np.where(blocked[:, None], self.agent, target)
        self.steps += 1
        found = (self.agent == self.goals[self.level]).all(axis=1)
        done = found | (self.steps >= TIME_LIMIT)
        self._begin(np.flatnonzero(done))
        return self._observe(), found.astype(np.float32), done, [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        """Nothing to free."""

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        return [getattr(self, method_name)(*args, **kwargs)] * self.num_envs

    def env_is_wrapped(self, wrapper_class: Any, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        return [seed] * self.num_envs
