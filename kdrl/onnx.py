"""A policy as an ONNX file: frames as bytes in, logits and the likeliest action out."""

import copy
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from common.onnx import Session, write_int8, write_onnx
from kdrl.episodes import play_part
from kdrl.extractors import FrameExtractor
from kdrl.game import Game
from kdrl.networks import PolicyLogits

OUTPUTS = ("logits", "action")
_STEPS, _EPISODES = 24, 64


class Acting(nn.Module):
    """A policy's logits, and what it does where it draws nothing.

    Args:
        policy: With discrete actions.
    """

    def __init__(self, policy: ActorCriticPolicy) -> None:
        super().__init__()
        self.logits = PolicyLogits(copy.deepcopy(policy).cpu())
        for module in self.logits.modules():
            if isinstance(module, FrameExtractor):
                module.precision = "32-true"

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, actions]`` and actions ``int64 [B]``."""
        logits = self.logits(observations)
        return logits, logits.argmax(dim=1)


class _Played(nn.Module):
    """An ONNX file in a network's place."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._session = Session(path)
        self.here = nn.Parameter(torch.zeros(()))

    def forward(self, observations: Tensor) -> Tensor:
        return torch.as_tensor(self._session(observations.contiguous())[0])


def frames(env: Game) -> list[Tensor]:
    """What a policy sees of its game under random actions: batches ``[B, *]``."""
    venv = env.venv(env.parts([])[0], 8, 0)
    rng, seen = np.random.default_rng(0), [venv.reset()]
    for _ in range(_STEPS):
        seen.append(venv.step(rng.integers(venv.action_space.n, size=8))[0])  # type: ignore[attr-defined]
    venv.close()
    found = [torch.as_tensor(np.ascontiguousarray(one)) for one in seen]  # type: ignore[arg-type]
    return [*found, found[0][:1]]


def write(policy: ActorCriticPolicy, path: Path, tried: Sequence[Tensor]) -> str:
    """Write the file and say how close it is."""
    away = write_onnx(Acting(policy).eval(), tried, path, ("observations", OUTPUTS), (0,))
    return f"logits within {away:.1e} of the policy's on {sum(map(len, tried))} frames"


def write_small(source: Path, path: Path, env: Game, tried: Sequence[Tensor]) -> str:
    """Write the file of 8 bits and say what it costs on unseen levels."""
    write_int8(source, path, tried)
    env = copy.copy(env)
    env.num_envs = _EPISODES
    part = next(one for one in env.parts([]) if one.split == "test" and not one.seen)
    before, after = (float(play_part(_Played(one), env, part, _EPISODES, 0).returns.mean()) for one in (source, path))
    where = f"{_EPISODES} unseen episodes of {part.domain(env.game)}"
    return f"8 bits, for CPUs; return {after:.2f} where the other has {before:.2f}, on {where}"
