"""Policies from runs' folders: to evaluate, and as teachers."""

import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.policies import ActorCriticPolicy

from common.configuration import read_settings
from common.device import pick_device
from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import Weights
from common.runs.teachers import Shares, load_teachers
from common.runs.weights import choose_weights, load_weights
from common.teacher import Combination, Teacher
from common.text import shown
from kdrl.game import Game
from kdrl.gymnasium_game import GymnasiumSettings
from kdrl.networks import PolicyJudge
from kdrl.settings import TrainSettings


def load_network(run: Run, weights: Weights = "auto", device: str = "auto") -> tuple[ActorCriticPolicy, TrainSettings]:
    """The policy a run trained, in eval mode, and the settings it was trained with.

    Args:
        run: The run; whether it is finished does not matter here.
        weights: Its last weights, the averaged ones, or with ``auto`` the averaged ones if it has any.
        device: Where the policy goes.

    Raises:
        InputError: not an RL run's folder, or no such checkpoint in it.
    """
    settings = read_settings(run.config_path, TrainSettings, task="rl")
    _check_module(run, settings.env)
    seen, actions = settings.env.spaces()
    settings.network.check(seen)
    network: dict[str, Any] = settings.network.kwargs
    policy = settings.network.policy_class(seen, actions, lambda _: 0.0, **network)
    load_weights(policy, run, choose_weights(run, weights))
    policy.set_training_mode(False)
    return policy.to(pick_device(device)), settings


def import_named(modules: Sequence[str], where: str = "modules") -> None:
    """Import what a user names, which registers tasks: installed, or a file of the folder that the user is in.

    Args:
        modules: Their names.
        where: Where the user named them, for messages.

    Raises:
        InputError: a module that cannot be imported.
    """
    if modules and (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # last: no file there stands for an installed module
    for name in modules:
        try:
            importlib.import_module(name)
        except Exception as error:  # of the module's own many kinds
            reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            raise InputError(
                f"{where}: {shown(name)} cannot be imported ({reason}); install it, or be where its file is"
            ) from error


def modules_of(env: Game) -> list[str]:
    """What an id names beside the task."""
    return env.id.split(":")[:-1] if isinstance(env, GymnasiumSettings) else []


def _check_module(run: Run, env: Game) -> None:
    """A folder may come from anybody: what it names is not imported."""
    for module in modules_of(env):
        if module not in sys.modules:
            raise InputError(f"{run.path} names a module, {shown(module)}; if you trust it, give modules=[{module}]")


def load_teacher(
    paths: Sequence[str],
    game: str,
    weights: Weights = "auto",
    combine: Combination = "probability",
    unfinished: bool = False,
    device: str = "auto",
    shares: Shares = "equal",
) -> Teacher:
    """One teacher of the policies of finished runs.

    Args:
        paths: The runs' folders.
        game: The student's game, which the teachers must have been trained on.
        weights: As in :func:`load_network`.
        combine: What of several teachers is averaged.
        unfinished: Whether runs that are not finished will do.
        device: Where the networks go.
        shares: What each of several weighs; see :func:`common.runs.teachers.shares_by_validation`.

    Raises:
        InputError: a folder that is no finished RL run, or a policy of another game.
    """

    def load(run: Run) -> PolicyJudge:
        policy, settings = load_network(run, weights, device)
        if settings.env.game != game:
            raise InputError(f"teacher={run.path} was trained on {settings.env.game}; give a teacher trained on {game}")
        return PolicyJudge(policy)

    return load_teachers(paths, load, combine, unfinished, weights, shares)
