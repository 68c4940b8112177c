"""A policy's training in mid-course, as a dictionary, and back: bit for bit what it would have been."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvWrapper
from torch import nn

from common.runs.checkpoint import State, load_own_state, own_state
from common.runs.keeper import Keeper
from common.runs.records import AVERAGED, LAST
from kdrl.callbacks import Evaluation
from kdrl.drivers import Behaviour
from kdrl.env import ProcgenVecEnv
from kdrl.ppo import DistilledPPO

# Arrays of a wrapper that are its state.
_MONITOR = ("episode_returns", "episode_lengths")


def capture(model: DistilledPPO, evaluations: Sequence[Evaluation]) -> State:
    """The state of a training at the beginning of a rollout, when the last update is complete.

    Args:
        model: In training.
        evaluations: What is played along the way.
    """
    distillation, averaging = model.distillation, model.averaging
    behaviour = model._behaviour
    return {
        "policy": dict(model.policy.state_dict()),
        "optimizer": model.policy.optimizer.state_dict(),
        "distillation": own_state(distillation),
        "tally": None if distillation is None else distillation.tally.state(),
        "averaging": own_state(averaging),
        "steps": model.num_timesteps,
        "updates": model._n_updates,
        "progress_remaining": float(model._current_progress_remaining),
        "episodes": [[torch.as_tensor(one["r"]), int(one["l"]), float(one["t"])] for one in model.ep_info_buffer or []],
        "episode_starts": torch.as_tensor(np.asarray(model._last_episode_starts)),
        "environment": _environment(_env(model)),
        "behaviour": None
        if behaviour is None
        else [torch.as_tensor(behaviour.by_teacher), torch.as_tensor(behaviour.random_left)],
        "next_points": [evaluation.next_point for evaluation in evaluations],
    }


def restore(model: DistilledPPO, evaluations: Sequence[Evaluation], state: State) -> bool:
    """Take back what :func:`capture` gave, in a model made by the same configuration.

    Returns:
        Whether the environment goes on as it was: the engine cannot save the look ``generated``, nor can other tasks
        than Procgen's be saved, whose episodes begin anew.
    """
    model.policy.load_state_dict(state["policy"])
    model.policy.optimizer.load_state_dict(state["optimizer"])
    if model.distillation is not None:
        load_own_state(model.distillation, state["distillation"])
        model.distillation.tally.load(state.get("tally", {}))
    if model.averaging is not None:
        model.averaging.load_state_dict(state["averaging"])
    model.num_timesteps, model._n_updates = state["steps"], state["updates"]
    model._current_progress_remaining = state["progress_remaining"]
    model.ep_info_buffer = deque(
        # As numpy's numbers of their own precision, in which means of them are taken.
        ({"r": value.numpy()[()], "l": length, "t": seconds} for value, length, seconds in state["episodes"]),
        maxlen=model._stats_window_size,
    )
    model.ep_success_buffer = deque(maxlen=model._stats_window_size)
    for evaluation, point in zip(evaluations, state["next_points"], strict=True):
        evaluation.next_point = point
    observations = _restore_environment(_env(model), state["environment"])
    if observations is None:
        # Left None, learn() begins new episodes.
        model._last_obs = None
        return False
    model._last_obs = observations
    model._last_episode_starts = state["episode_starts"].numpy()
    if state["behaviour"] is not None:
        behaviour = Behaviour(model.driver, _env(model).num_envs)
        behaviour.by_teacher, behaviour.random_left = (array.numpy() for array in state["behaviour"])
        model._behaviour = behaviour
    return True


def _env(model: DistilledPPO) -> VecEnv:
    env = model.get_env()
    assert env is not None
    return env


def _environment(env: VecEnv) -> State:
    state: State = {}
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize):
            state["normalisation"] = [torch.as_tensor(np.asarray(array, np.float64)) for array in _statistics(env)]
        elif isinstance(env, VecMonitor):
            state["monitor"] = [torch.as_tensor(getattr(env, name)) for name in _MONITOR]
            state["episode_count"] = env.episode_count
        env = env.venv
    if isinstance(env, ProcgenVecEnv) and env.engine.savable:
        state["engine"] = [torch.frombuffer(bytearray(one), dtype=torch.uint8) for one in env.get_state()]
    return state


def _statistics(env: VecNormalize) -> tuple[Any, ...]:
    return env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count, env.returns


def _restore_environment(env: VecEnv, state: State) -> NDArray[np.uint8] | None:
    exact = "engine" in state
    while isinstance(env, VecEnvWrapper):
        if isinstance(env, VecNormalize):
            mean, var, count, returns = (array.numpy() for array in state["normalisation"])
            env.ret_rms.mean, env.ret_rms.var, env.ret_rms.count = mean[()], var[()], float(count)
            env.returns = returns
        elif exact and isinstance(env, VecMonitor):
            for name, array in zip(_MONITOR, state["monitor"], strict=True):
                setattr(env, name, array.numpy())
            env.episode_count = state["episode_count"]
        env = env.venv
    if not exact:
        return None
    assert isinstance(env, ProcgenVecEnv)
    # Its own array, not a saved one: convolutions round by how frames lie in memory.
    return env.set_state([one.numpy().tobytes() for one in state["engine"]])


class StateKeeping(BaseCallback):
    """Remembers the state at the beginning of every rollout, and writes it every so many steps.

    The policy's weights are written with it, and the averaged ones, for whoever wants to look at an unfinished run;
    averages whose BatchNorm statistics are to be re-estimated are not, before the end.

    Args:
        keeper: Where states go.
        evaluations: What is played along the way, whose place in the training is part of its state.
    """

    model: DistilledPPO

    def __init__(self, keeper: Keeper, evaluations: Sequence[Evaluation]) -> None:
        super().__init__()
        self.keeper, self.evaluations = keeper, evaluations

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        # At a rollout's start the last update is complete and its loss was finite.
        self.keeper.remember(capture(self.model, self.evaluations), self.num_timesteps)
        if self.keeper.is_due(self.num_timesteps):
            self.keeper.save()
            networks: list[tuple[str, nn.Module]] = [(LAST, self.model.policy)]
            averaging = self.model.averaging
            if averaging is not None and averaging.begun and not averaging.reestimates:
                networks.append((AVERAGED, averaging.averaged))
            self.keeper.save_weights(networks)
