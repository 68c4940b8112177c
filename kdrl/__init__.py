"""Distillation for Stable-Baselines3 PPO policies on Procgen levels that training has not shown."""

import contextlib

with contextlib.suppress(ImportError):
    # Stable-Baselines3 imports the unmaintained gym where it is installed (procgen needs it), and
    # gym prints a notice at import that no user of this package can act on.
    from gym_notices import notices

    notices.notices.clear()

from common.distillation import Distillation
from common.procgen import LevelSet
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout
from kdrl.env import ProcgenVecEnv
from kdrl.extractors import policy_kwargs
from kdrl.networks import PolicyLogits
from kdrl.ppo import DistilledPPO

__all__ = [
    "KD",
    "KDDG",
    "Distillation",
    "DistilledPPO",
    "LevelSet",
    "PolicyLogits",
    "ProcgenVecEnv",
    "SDDropout",
    "Teacher",
    "policy_kwargs",
]
