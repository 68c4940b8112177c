"""Policies from runs' folders: to evaluate, and as teachers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from common.configuration import read_settings
from common.device import pick_device
from common.errors import InputError
from common.procgen import ACTION_COUNT
from common.runs.folder import Run
from common.runs.records import Weights
from common.runs.teachers import Shares, load_teachers
from common.runs.weights import choose_weights, load_weights
from common.teacher import Combination, Teacher
from kdrl.networks import PolicyJudge
from kdrl.settings import TrainSettings

# Channel first, as kdrl.ProcgenVecEnv gives frames.
OBSERVATION_SPACE = spaces.Box(0, 255, (3, 64, 64), np.uint8)


def load_network(
    run: Run, weights: Weights = "auto", device: str = "auto"
) -> tuple[ActorCriticCnnPolicy, TrainSettings]:
    """The policy a run trained, in eval mode, and the settings it was trained with.

    Args:
        run: The run; whether it is finished does not matter here.
        weights: Its last weights, the averaged ones, or with ``auto`` the averaged ones if it has any.
        device: Where the policy goes.

    Raises:
        InputError: not an RL run's folder, or no such checkpoint in it.
    """
    settings = read_settings(run.config_path, TrainSettings, task="rl")
    network: dict[str, Any] = settings.network.kwargs
    policy = ActorCriticCnnPolicy(OBSERVATION_SPACE, spaces.Discrete(ACTION_COUNT), lambda _: 0.0, **network)
    load_weights(policy, run, choose_weights(run, weights))
    policy.set_training_mode(False)
    return policy.to(pick_device(device)), settings


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
