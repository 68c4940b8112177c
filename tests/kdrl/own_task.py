"""A task of somebody's own: pictures, channels last, of a bright bar that is to be followed."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Bar(gym.Env[Any, Any]):
    metadata = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(self, side: int = 32, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(0, 255, (side, side, 3), np.uint8)
        self.action_space = spaces.Discrete(3)
        self.render_mode, self.side, self.brightness = render_mode, side, 200.0
        self.place = self.steps = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.steps, self.place = 0, int(self.np_random.integers(3))
        return self.render(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward = float(action == self.place)
        self.steps, self.place = self.steps + 1, int(self.np_random.integers(3))
        return self.render(), reward, self.steps == 5, False, {}

    def render(self) -> Any:
        picture = np.zeros((self.side, self.side, 3), np.uint8)
        third = self.side // 3
        picture[:, self.place * third : (self.place + 1) * third] = int(self.brightness)
        return picture


class Unseen(Bar):
    """The same, by somebody who draws nothing."""

    metadata = {"render_modes": []}  # noqa: RUF012


for task, kind in (("Bar-v0", Bar), ("Unseen-v0", Unseen)):
    if task not in gym.registry:
        gym.register(task, entry_point=kind)
