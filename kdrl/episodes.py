"""Whole episodes of a policy on levels and looks it may not have seen."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from kdrl.game import Game, Part
from kdrl.settings import TrainSettings

FRAMES_KEPT = 12
CLIP = 48
"""Frames of one environment that a clip has, every second one."""


@dataclasses.dataclass
class Episodes:
    """Finished episodes, in the order in which they ended.

    Attributes:
        returns: ``[N]``, undiscounted.
        levels: ``[N]``; of games without levels, the episodes' numbers.
        environments: ``[N]``, the number of each one's environment.
        frames: ``[K, H, W, 3]``, a few; none where observations are no pictures.
        clip: ``[K, H, W, 3]``, of the first environment, one after the other; as ``frames``.
    """

    returns: NDArray[np.float64]
    levels: NDArray[np.int64]
    environments: NDArray[np.int64]
    frames: NDArray[np.uint8]
    clip: NDArray[np.uint8]


See = Callable[[NDArray[Any], NDArray[np.intp], int], Tensor]
"""What a policy is shown: of observations ``[N, *]``, the numbers of their environments, and the step."""


@torch.no_grad()
def play(policy: nn.Module, env: VecEnv, episodes: int, seed: int, see: See | None = None) -> Episodes:
    """Play whole episodes with sampled actions.

    Every environment contributes the same number of episodes (up to one): taking whichever end first
    would favour short ones.

    Args:
        policy: From observations ``[N, *]`` to action logits.
        env: Of arrays and discrete actions; freshly made, so that it stands at the beginning of its episodes.
        episodes: How many, over all environments.
        seed: Of the sampled actions; the global generators are left alone.
        see: What the policy is shown in place of the frames.
    """
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    quota = np.full(env.num_envs, episodes // env.num_envs)
    quota[: episodes % env.num_envs] += 1
    observations: Any = env.reset()
    is_pictures = observations.ndim == 4 and observations.shape[1] == 3 and observations.dtype == np.uint8
    total = np.zeros(env.num_envs)
    actions = np.zeros(env.num_envs, dtype=np.int64)
    returns: list[float] = []
    levels: list[int] = []
    environments: list[int] = []
    frames: list[NDArray[np.uint8]] = []
    clip: list[NDArray[np.uint8]] = []
    step = 0
    while quota.any():
        if is_pictures and step % 2 == 0 and len(clip) < CLIP:
            clip.append(observations[0].transpose(1, 2, 0).copy())
        if is_pictures and step % 8 == 0 and len(frames) < FRAMES_KEPT:
            # Another environment each time: a strip shows several levels.
            frame = observations[len(frames) % env.num_envs]
            frames.append(np.ascontiguousarray(frame.transpose(1, 2, 0)))
        # Who has played its share only waits for the others.
        active = np.flatnonzero(quota)
        shown = observations[active] if see is None else see(observations[active], active, step)
        logits = policy(torch.as_tensor(shown, device=device))
        drawn = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
        actions[active] = drawn.cpu().numpy()
        step_result: Any = env.step(actions)
        observations, rewards, dones, infos = step_result
        total += rewards
        for index in np.flatnonzero(dones):
            if quota[index]:
                quota[index] -= 1
                returns.append(float(total[index]))
                levels.append(int(infos[index].get("prev_level_seed", len(levels))))
                environments.append(int(index))
            total[index] = 0.0
        step += 1
    whose = np.array(environments, dtype=np.int64)
    none = np.zeros((0, 1, 1, 3), np.uint8)
    pictures = (np.stack(frames), np.stack(clip)) if is_pictures else (none, none)
    return Episodes(np.array(returns), np.array(levels, dtype=np.int64), whose, *pictures)


def play_part(policy: nn.Module, env: Game, part: Part, episodes: int, seed: int, see: See | None = None) -> Episodes:
    """Make the environment of a part, play, and close it."""
    venv = env.venv(part, min(env.num_envs, episodes), seed)
    try:
        return play(policy, venv, episodes, seed, see)
    finally:
        venv.close()


def measure(
    policy: nn.Module, settings: TrainSettings, looks: Sequence[str], episodes: int, seed: int
) -> Iterator[tuple[Part, Episodes]]:
    """Play every test part of a training configuration, one after the other."""
    for part in settings.env.parts(looks):
        yield part, play_part(policy, settings.env, part, episodes, seed)
