"""What a policy's run is: which parts of its configuration make a setting, and which a row."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from common.augkd.program import artefact_hashes
from common.averaging import Averager
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.row import describe_row, teacher_hashes
from kdrl.drivers import Driver
from kdrl.settings import TrainSettings


def identify(
    settings: TrainSettings,
    ppo: Mapping[str, Any],
    driver: Driver,
    averaging: Averager | None,
    teachers: Sequence[Run],
) -> Identity:
    """A run's identity.

    Args:
        settings: As configured.
        ppo: PPO's arguments, its defaults included.
        driver: Who acts.
        averaging: The averager, if any.
        teachers: The runs of the teachers that are asked.
    """
    env, evaluation = settings.env, settings.evaluation
    domains = {"target": env.source, "game": env.game}
    validation = {"every": evaluation.every, "episodes": evaluation.progress_episodes}
    acts = None if driver.is_student else settings.driver
    row = describe_row(settings, averaging, validation, teachers, domains, acts)
    return Identity(
        task="rl",
        setting={
            "data": dict(env.facts()),
            "network": {
                "extractor": settings.network.extractor,
                "features_dim": settings.network.features_dim,
                # What later versions brought, where it is not used: runs of before are of the same setting.
                **({"pooled": True} if settings.network.pooled else {}),
                **({} if settings.network.precision == "32-true" else {"precision": settings.network.precision}),
            },
            "budget": {"steps": settings.total_timesteps},
            "host": {
                "num_envs": env.num_envs,
                "normalize_reward": settings.normalize_reward,
                "ppo": json.loads(json.dumps(dict(ppo), default=str)),
            },
        },
        domains=domains,
        row=row,
        seed=settings.seed,
        teachers=(*teacher_hashes(teachers, settings.teacher_weights), *artefact_hashes(settings.anchor)),
    )
