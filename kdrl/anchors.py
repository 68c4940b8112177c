"""The student's domain as AuG-KD is shown it: frames of its environment, with the teacher's choices for labels.

Who acts is the teacher: what it sees there is where its knowledge may be of use, and a student that has not learnt
anything sees little.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from common.augkd import Domain, Layout, Sample
from common.procgen import ACTION_COUNT
from common.teacher import Teacher

FRAMES = 4096


def student_domain(
    make_env: Callable[[], VecEnv], teacher: Teacher, device: torch.device, batch_size: int, seed: int, fingerprint: str
) -> Domain:
    """Frames that the teacher comes to see, and its most probable actions.

    Args:
        make_env: Makes the student's environment anew; it is played when a frame is first asked for, and closed.
        teacher: Frozen, where the student is.
        device: Where the student is.
        batch_size: Of minibatches.
        seed: Of actions and minibatches.
        fingerprint: What stands for the environment.
    """
    kept: list[tuple[Tensor, Tensor]] = []

    def batches(start: int) -> Iterator[Sample]:
        if not kept:
            kept.append(_play(make_env, teacher, device, seed))
        frames, actions = kept[0]
        while True:
            drawn = np.random.default_rng([seed, start]).integers(len(frames), size=batch_size)
            chosen = torch.from_numpy(drawn)
            yield Sample(frames[chosen].float().to(device), actions[chosen].to(device))
            start += 1

    # What SB3 calls an image is 0 to 255.
    layout = Layout(ACTION_COUNT, 3, (64, 64), False, (0.0,) * 3, (255.0,) * 3)
    return Domain(layout, batches, fingerprint, has_labels=False)


@torch.no_grad()
def _play(make_env: Callable[[], VecEnv], teacher: Teacher, device: torch.device, seed: int) -> tuple[Tensor, Tensor]:
    """``uint8 [FRAMES, 3, 64, 64]`` and the teacher's most probable actions there; actions are sampled."""
    env = make_env()
    generator = torch.Generator(device).manual_seed(seed)
    frames: list[Tensor] = []
    actions: list[Tensor] = []
    try:
        observations = env.reset()
        assert isinstance(observations, np.ndarray)
        while len(frames) * env.num_envs < FRAMES:
            logits = teacher(torch.as_tensor(observations, device=device)).float()
            frames.append(torch.as_tensor(observations).clone())
            actions.append(logits.argmax(dim=1).cpu())
            drawn = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
            observations, _, _, _ = env.step(drawn.cpu().numpy())
            assert isinstance(observations, np.ndarray)
    finally:
        env.close()
    return torch.cat(frames)[:FRAMES], torch.cat(actions)[:FRAMES]
