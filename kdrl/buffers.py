"""Rollouts whose minibatches tell which transitions they are."""

from collections.abc import Generator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.buffers import BaseBuffer, RolloutBuffer
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

# What the host lines up before it draws minibatches.
FLATTENED = ("observations", "actions", "values", "log_probs", "advantages", "returns")
# ``float32 [steps, envs]``.
NUMBERS = ("rewards", "returns", "episode_starts", "values", "log_probs", "advantages")


class IndexedSamples(NamedTuple):
    """:class:`RolloutBufferSamples` that tell which transitions they are.

    Attributes:
        indices: ``int64 [B]`` into the flattened, environment-major rollout.
    """

    observations: Tensor
    actions: Tensor
    old_values: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    indices: Tensor


Samples = RolloutBufferSamples | IndexedSamples


class IndexedRolloutBuffer(RolloutBuffer):
    """A rollout buffer whose minibatches are :class:`IndexedSamples`.

    Attributes:
        raw: ``[steps, envs, *]``, and once lined up ``[envs · steps, *]``, the observations before they were
            normalised, where :meth:`keep_raw` was asked for.
    """

    raw: NDArray[Any] | None = None
    _normalizer: VecNormalize | None = None

    def keep_raw(self, normalizer: VecNormalize | None) -> None:
        """Keep the next rollout's observations as they are before ``normalizer``; with ``None``, do not."""
        self._normalizer, self.raw = normalizer, None
        if normalizer is not None:
            self._seen = normalizer.get_original_obs()
            self.raw = np.zeros((self.buffer_size, *self._seen.shape), self._seen.dtype)  # type: ignore[union-attr]

    def add(self, *arguments: Any, **named: Any) -> None:
        """As in Stable-Baselines3; the environment has been stepped already, so what it shows now is the next one's."""
        self._add_raw()
        super().add(*arguments, **named)

    def flatten(self) -> None:
        """Line the rollout up environment by environment, as the first minibatch does, and ``raw`` with it."""
        if self.generator_ready:
            return
        for name in (*FLATTENED, *(["raw"] if self.raw is not None else [])):
            setattr(self, name, self.swap_and_flatten(getattr(self, name)))
        self.generator_ready = True

    def get(self, batch_size: int | None = None) -> Generator[IndexedSamples, None, None]:  # type: ignore[override]
        """As in Stable-Baselines3."""
        if self.full:
            self.flatten()
        yield from super().get(batch_size)  # type: ignore[misc]

    def _add_raw(self) -> None:
        if self._normalizer is not None and self.raw is not None:
            self.raw[self.pos] = self._seen
            self._seen = self._normalizer.get_original_obs()

    def _get_samples(self, batch_inds: NDArray[np.int64], env: Any = None) -> IndexedSamples:  # type: ignore[override]
        indices = torch.as_tensor(batch_inds, device=self.device)
        return IndexedSamples(*super()._get_samples(batch_inds, env), indices)


class FrameBuffer(IndexedRolloutBuffer):
    """A rollout of frames ``[C, H, W]`` for networks that take them channels-last, on the model's device.

    Memory is ``[envs, steps, H, W, C]``, made once: a frame is written where it stays, lining up environments is a
    view, and a minibatch is whole rows of bytes. ``observations`` is a tensor that shows it in the host's shape.
    """

    def reset(self) -> None:
        """As in Stable-Baselines3; frames are left until they are written over."""
        if not hasattr(self, "_frames"):
            (channels, *sides), like = self.obs_shape, torch.as_tensor(np.zeros(0, self.observation_space.dtype))
            shape = (self.n_envs, self.buffer_size, *sides, channels)
            self._frames = torch.empty(shape, dtype=like.dtype, device=self.device)  # type: ignore[arg-type]
        steps = (self.buffer_size, self.n_envs)
        self.observations = self._frames.permute(1, 0, 4, 2, 3)  # type: ignore[assignment]
        self.actions = np.zeros((*steps, self.action_dim), dtype=self.action_space.dtype)
        for name in NUMBERS:
            setattr(self, name, np.zeros(steps, dtype=np.float32))
        self.generator_ready = False
        BaseBuffer.reset(self)

    def add(  # type: ignore[override]
        self,
        obs: NDArray[Any],
        action: NDArray[Any],
        reward: NDArray[Any],
        episode_start: NDArray[Any],
        value: Tensor,
        log_prob: Tensor,
    ) -> None:
        """As in Stable-Baselines3."""
        self._add_raw()
        self._frames[:, self.pos].copy_(torch.as_tensor(obs).permute(0, 2, 3, 1), non_blocking=True)
        self.actions[self.pos] = action.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos], self.episode_starts[self.pos] = reward, episode_start
        self.values[self.pos], self.log_probs[self.pos] = value.flatten().cpu(), log_prob.cpu()
        self.pos += 1
        self.full = self.pos == self.buffer_size

    def _get_samples(self, batch_inds: NDArray[np.int64], env: Any = None) -> IndexedSamples:  # type: ignore[override]
        indices = torch.as_tensor(batch_inds, device=self.device)
        _, _, *shape = self._frames.shape
        rows = self._frames.view(self.buffer_size * self.n_envs, -1).index_select(0, indices)
        numbers = (self.values, self.log_probs, self.advantages, self.returns)
        data = (self.actions[batch_inds].astype(np.float32), *(array[batch_inds].flatten() for array in numbers))
        others = [self.to_torch(array, copy=False) for array in data]
        return IndexedSamples(rows.view(-1, *shape).permute(0, 3, 1, 2), *others, indices)  # type: ignore[call-arg]
