"""What PPO refuses to be taught: methods, teachers and drivers that it cannot serve."""

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecNormalize

from common.distillation import Distillation
from common.errors import InputError
from common.terms import Need
from kdrl.buffers import IndexedRolloutBuffer
from kdrl.drivers import Driver
from kdrl.networks import check_spaces, check_teacher, hears

PROVIDES: frozenset[Need] = frozenset(
    {"teacher", "features", "index", "look", "values", "teacher_values", "ratio", "encoded"}
)


def check_method(distillation: Distillation, model: PPO) -> None:
    """Raise unless ``model`` can show all terms what they need; moves the method to the model's device.

    Raises:
        InputError: as documented in :class:`kdrl.DistilledPPO`.
    """
    distillation.check_needs(PROVIDES, "PPO")
    if distillation.is_plain:
        return
    check_spaces(model.observation_space, model.action_space)
    if not isinstance(model.rollout_buffer, IndexedRolloutBuffer):
        raise InputError(
            f"rollout_buffer_class={type(model.rollout_buffer).__name__} cannot carry teacher logits; "
            "derive it from kdrl.buffers.IndexedRolloutBuffer"
        )
    distillation.to(model.device)
    if distillation.teacher is not None:
        normalizer = normalizer_of(model)
        check_teacher(distillation.teacher, model.policy, distillation.needs("teacher_values"), normalizer)


def normalizer_of(model: PPO) -> VecNormalize | None:
    """What normalises the observations that ``model`` sees, if anything does."""
    normalizer = model.get_vec_normalize_env()
    return normalizer if normalizer is not None and normalizer.norm_obs else None


def check_driver(driver: Driver, distillation: Distillation | None, model: PPO) -> None:
    """Raise unless ``driver`` can act for ``model``.

    Raises:
        InputError: no teacher where one acts, actions that are not discrete, or early stopping by ``target_kl``.
    """
    if driver.is_student:
        return
    check_spaces(model.observation_space, model.action_space)
    if driver.asks_teacher and (distillation is None or distillation.teacher is None):
        raise InputError("driver: the teacher cannot act, for the method asks none; use driver=student")
    teacher = None if distillation is None else distillation.teacher
    if driver.asks_teacher and teacher is not None and hears(teacher, normalizer_of(model)) == "raw":
        raise InputError("driver: a teacher with statistics of its own cannot act; use driver=student")
    if model.target_kl is not None:
        raise InputError(f"ppo.target_kl={model.target_kl} stops what is off-policy; remove it or use driver=student")
