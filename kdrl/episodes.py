"""Whole episodes of a policy on levels and looks it may not have seen."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.errors import choice
from common.procgen import LOOKS, LevelSet
from common.runs.records import Split
from kdrl.env import ProcgenVecEnv
from kdrl.settings import EnvSettings, TrainSettings

VALIDATION_LEVELS = 1000
FRAMES_KEPT = 12
CLIP = 48
"""Frames of one environment that a clip has, every second one."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Where a policy is tested: a look and a set of levels."""

    look: str
    levels: LevelSet
    seen: bool
    split: Split = "test"

    def domain(self, game: str) -> str:
        """Name in records: game and look."""
        return f"{game}/{self.look}"


@dataclasses.dataclass
class Episodes:
    """Finished episodes, in the order in which they ended.

    Attributes:
        returns: ``[N]``, undiscounted.
        levels: ``[N]``.
        environments: ``[N]``, the number of each one's environment.
        frames: ``[K, 64, 64, 3]``, a few.
        clip: ``[K, 64, 64, 3]``, of the first environment, one after the other.
    """

    returns: NDArray[np.float64]
    levels: NDArray[np.int64]
    environments: NDArray[np.int64]
    frames: NDArray[np.uint8]
    clip: NDArray[np.uint8]


See = Callable[[NDArray[np.uint8], NDArray[np.intp], int], Tensor]
"""What a policy is shown: of frames ``[N, 3, 64, 64]``, the numbers of their environments, and the step."""


def test_parts(env: EnvSettings, looks: Sequence[str]) -> list[Part]:
    """Training levels, validation levels and unseen levels in the training look, then unseen levels in other looks.

    Raises:
        InputError: an unknown look.
    """
    for look in looks:
        choice(look, LOOKS, "evaluation.looks")
    others = [look for look in looks if look != env.look]
    validation = LevelSet.validation(env.seen(), count=VALIDATION_LEVELS)
    return [
        Part(env.look, env.seen(), seen=True),
        Part(env.look, validation, seen=False, split="validation"),
        *(Part(look, LevelSet.unseen(), seen=False) for look in (env.look, *others)),
    ]


@torch.no_grad()
def play(policy: nn.Module, env: ProcgenVecEnv, episodes: int, seed: int, see: See | None = None) -> Episodes:
    """Play whole episodes with sampled actions.

    Every environment contributes the same number of episodes (up to one): taking whichever end first
    would favour short ones.

    Args:
        policy: From observations ``uint8 [N, 3, 64, 64]`` to action logits.
        env: Freshly made, so that it stands at the beginning of its episodes.
        episodes: How many, over all environments.
        seed: Of the sampled actions; the global generators are left alone.
        see: What the policy is shown in place of the frames.
    """
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    quota = np.full(env.num_envs, episodes // env.num_envs)
    quota[: episodes % env.num_envs] += 1
    observations: NDArray[np.uint8] = env.reset()
    total = np.zeros(env.num_envs)
    actions = np.zeros(env.num_envs, dtype=np.int64)
    returns: list[float] = []
    levels: list[int] = []
    environments: list[int] = []
    frames: list[NDArray[np.uint8]] = []
    clip: list[NDArray[np.uint8]] = []
    step = 0
    while quota.any():
        if step % 2 == 0 and len(clip) < CLIP:
            clip.append(observations[0].transpose(1, 2, 0).copy())
        if step % 8 == 0 and len(frames) < FRAMES_KEPT:
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
                levels.append(int(infos[index]["prev_level_seed"]))
                environments.append(int(index))
            total[index] = 0.0
        step += 1
    whose = np.array(environments, dtype=np.int64)
    return Episodes(np.array(returns), np.array(levels, dtype=np.int64), whose, np.stack(frames), np.stack(clip))


def play_part(
    policy: nn.Module, env: EnvSettings, part: Part, episodes: int, seed: int, see: See | None = None
) -> Episodes:
    """Make the environment of a part, play, and close it."""
    venv = ProcgenVecEnv(
        env.game,
        num_envs=min(env.num_envs, episodes),
        levels=part.levels,
        look=part.look,
        difficulty=env.difficulty,
        seed=seed,
        threads=env.threads,
    )
    try:
        return play(policy, venv, episodes, seed, see)
    finally:
        venv.close()


def measure(
    policy: nn.Module, settings: TrainSettings, looks: Sequence[str], episodes: int, seed: int
) -> Iterator[tuple[Part, Episodes]]:
    """Play every test part of a training configuration, one after the other."""
    for part in test_parts(settings.env, looks):
        yield part, play_part(policy, settings.env, part, episodes, seed)
