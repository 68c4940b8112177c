"""Arguments that make the programs a matter of seconds."""

import pytest
import torch
from torch import Tensor

from kdrl import ProcgenVecEnv


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Arguments of ``kdrl-train``; ``run_dir`` is left to the test. Leaper's episodes are short."""
    return [
        "env=leaper",
        "env.num_envs=8",
        "env.threads=0",
        "total_timesteps=256",
        "ppo.n_steps=16",
        "ppo.batch_size=64",
        "network.features_dim=32",
        "evaluation.episodes=4",
        "evaluation.looks=[themed,generated]",
        "device=cpu",
    ]


@pytest.fixture(scope="session")
def frames() -> Tensor:
    """Real first frames ``uint8 [6, 3, 64, 64]``."""
    env = ProcgenVecEnv("coinrun", 6, threads=0)
    observations = torch.as_tensor(env.reset())
    env.close()
    return observations
