"""From a configuration to PPO, its environment, its driver and its method."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecEnv, VecMonitor, VecNormalize

from common.averaging import Averager
from common.configuration import Choices, build, check_arguments
from common.device import memory_bytes, pick_device
from common.distillation import Distillation
from common.errors import InputError
from common.method import make_distillation, teacher_paths
from common.teacher import Teacher
from kdrl.drivers import Driver
from kdrl.ppo import DistilledPPO
from kdrl.restore import load_teacher
from kdrl.settings import TrainSettings

DRIVERS: Choices = {"kdrl.drivers.Driver": Driver}
# Set by DistilledPPO's caller, not by configuration.
RESERVED = (
    *("policy", "env", "policy_kwargs", "seed", "device", "tensorboard_log", "verbose"),
    *("distillation", "driver", "averaging"),
)


def ppo_arguments(settings: TrainSettings) -> dict[str, Any]:
    """Arguments of PPO as configured, its defaults included.

    Raises:
        InputError: an unknown argument, a wrong type or size, or one that cannot be set.
    """
    given = check_arguments(DistilledPPO, settings.ppo, "ppo", RESERVED)
    arguments = {name: parameter.default for name, parameter in inspect.signature(PPO).parameters.items()} | given
    rollout, batch = settings.env.num_envs * arguments["n_steps"], arguments["batch_size"]
    if rollout % batch:
        raise InputError(
            f"ppo.batch_size={batch} does not divide a rollout of {rollout} transitions "
            f"(env.num_envs x ppo.n_steps); choose a divisor"
        )
    return {name: value for name, value in arguments.items() if name not in RESERVED and not name.startswith("_")}


def _check_memory(arguments: Mapping[str, Any], venv: VecEnv) -> None:
    """Raise where a rollout, of observations and some numbers, is more than this machine's memory."""
    seen, steps = venv.observation_space, arguments["n_steps"]
    assert isinstance(seen, spaces.Box)
    transition = int(np.prod(seen.shape)) * seen.dtype.itemsize + 64
    needed, there = venv.num_envs * steps * transition / 2**30, memory_bytes() / 2**30
    if needed > there:
        raise InputError(
            f"ppo.n_steps={steps} with env.num_envs={venv.num_envs} needs {needed:,.0f} GiB for a rollout, and this"
            f" machine has {there:.0f}; take fewer"
        )


def make_env(settings: TrainSettings) -> VecEnv:
    """The training environment: episode statistics, then optionally normalised rewards.

    Raises:
        InputError: a game that cannot be made.
    """
    venv: VecEnv = VecMonitor(settings.env.training_venv(settings.seed))
    if settings.normalize_reward:
        venv = VecNormalize(venv, norm_obs=False, gamma=ppo_arguments(settings)["gamma"])
    return venv


def make_model(
    settings: TrainSettings,
    venv: VecEnv,
    distillation: Distillation,
    driver: Driver | None = None,
    averaging: Averager | None = None,
) -> DistilledPPO:
    """PPO as configured.

    Raises:
        InputError: an unknown PPO argument or a wrong type, or a distillation PPO cannot serve.
    """
    network, arguments = settings.network.kwargs, ppo_arguments(settings)
    settings.network.check(venv.observation_space)
    _check_memory(arguments, venv)
    try:
        return DistilledPPO(
            settings.network.policy_class,
            venv,
            policy_kwargs=network,
            seed=settings.seed,
            device=pick_device(settings.device),
            distillation=distillation,
            driver=driver,
            averaging=averaging,
            **arguments,
        )
    except InputError:
        raise
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(f"ppo: {' '.join(str(error).split())}") from error


def configured_driver(settings: TrainSettings) -> Driver:
    """Who acts.

    Raises:
        InputError: a driver that cannot be used.
    """
    driver: Driver = build(settings.driver, "driver", DRIVERS)
    return driver


def configured_method(settings: TrainSettings) -> tuple[Distillation, list[str]]:
    """The configured method and the folders of the teachers it uses.

    Raises:
        InputError: a method, term or teacher that cannot be used.
    """
    paths = teacher_paths(settings.teacher)
    teacher: Teacher | None = None
    if paths:
        game, weights, combine = settings.env.game, settings.teacher_weights, settings.teacher_combine
        unfinished, device, shares = settings.unfinished, settings.device, settings.teacher_shares
        teacher = load_teacher(paths, game, weights, combine, unfinished, device, shares)
    return make_distillation(settings.method, teacher, paths)


def without_validation(settings: TrainSettings) -> str | None:
    """What keeps a run from playing validation levels along the way, if anything."""
    every, steps = settings.evaluation.every, settings.total_timesteps
    if not settings.env.scores(0.0):
        return f"env.return_range=null of {settings.env.game}"
    return None if 0 < every <= steps else f"a run of {steps} steps with evaluation.every={every}"
