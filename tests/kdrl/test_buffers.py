"""Rollouts of frames hold what the host's hold, laid out for speed."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer

from kdrl.buffers import FrameBuffer

STEPS, ENVS = 5, 3
SHAPE = (2, 6, 4)


def fill(buffer: RolloutBuffer, seed: int) -> None:
    """A made-up rollout, the same for every buffer."""
    generator = np.random.default_rng(seed)
    for _ in range(STEPS):
        frames = generator.integers(0, 256, (ENVS, *SHAPE[1:], SHAPE[0])).astype(buffer.observation_space.dtype)
        numbers = generator.normal(size=(4, ENVS)).astype(np.float32)
        values, log_probs = torch.as_tensor(numbers[:2])
        actions = generator.integers(7, size=(ENVS, 1))
        buffer.add(frames.transpose(0, 3, 1, 2), actions, numbers[2], numbers[3] > 0, values, log_probs)
    buffer.compute_returns_and_advantage(torch.zeros(ENVS), np.zeros(ENVS, dtype=np.bool_))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("actions", [spaces.Discrete(7), spaces.MultiDiscrete([7])])
def test_minibatches_are_the_hosts(dtype: type, actions: spaces.Space) -> None:
    space = spaces.Box(0, 255, SHAPE, dtype)
    host = RolloutBuffer(STEPS, space, actions, "cpu", n_envs=ENVS)
    ours = FrameBuffer(STEPS, space, actions, "cpu", n_envs=ENVS)
    memory = ours.observations.data_ptr()
    for rollout in range(2):  # the second is written over the first
        for buffer in (host, ours):
            buffer.reset()
            fill(buffer, rollout)
        assert np.array_equal(np.asarray(ours.observations), host.observations)
        for _ in range(2):
            batches = []
            for buffer in (host, ours):
                np.random.seed(rollout)  # noqa: NPY002 - the host's generator
                batches.append(list(buffer.get(4)))
            for theirs, mine in zip(*batches, strict=True):
                for name in theirs._fields:
                    theirs_, mine_ = getattr(theirs, name), getattr(mine, name)
                    assert torch.equal(mine_, theirs_) and mine_.dtype == theirs_.dtype, name
                assert torch.equal(torch.as_tensor(host.observations)[mine.indices], mine.observations)
                assert mine.observations.is_contiguous(memory_format=torch.channels_last)
    assert ours.observations.data_ptr() == memory


def test_lined_up_once() -> None:
    buffer = FrameBuffer(STEPS, spaces.Box(0, 255, SHAPE, np.uint8), spaces.Discrete(7), "cpu", n_envs=ENVS)
    fill(buffer, 0)
    before = np.asarray(buffer.observations).swapaxes(0, 1)
    buffer.flatten()
    assert np.array_equal(np.asarray(buffer.observations).reshape(before.shape), before)
    flat = buffer.observations
    buffer.flatten()
    next(iter(buffer.get(4)))
    assert buffer.observations is flat


def test_a_minibatch_outlives_the_rollout() -> None:
    buffer = FrameBuffer(STEPS, spaces.Box(0, 255, SHAPE, np.uint8), spaces.Discrete(7), "cpu", n_envs=ENVS)
    fill(buffer, 0)
    frames = next(iter(buffer.get(4))).observations
    kept = frames.clone()
    buffer.reset()
    fill(buffer, 1)
    assert torch.equal(frames, kept)
