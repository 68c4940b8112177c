"""Stable-Baselines3's PPO with distillation terms beside its loss."""

import functools
import io
import pathlib
from typing import Any, Self

import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.vec_env import VecEnv

from common.arguments import Count, Fraction, NotNegative, Number, Positive, Seed, checked
from common.averaging import Averager
from common.distillation import Distillation
from common.errors import NonFiniteLossError
from common.structure import filled, structure_of
from kdrl.buffers import FrameBuffer, IndexedRolloutBuffer
from kdrl.checks import check_driver, check_method
from kdrl.drivers import Behaviour, Driver
from kdrl.extractors import FrameExtractor
from kdrl.minibatch import sample_view
from kdrl.networks import PolicyLogits
from kdrl.update import TermsPPO


class DistilledPPO(TermsPPO):
    """Drop-in for :class:`stable_baselines3.PPO`, with distillation.

    Takes PPO's arguments plus ``distillation``, ``driver`` and ``averaging``. Without a distillation, or with one
    without terms, the parameters after any number of updates equal stock PPO's bit for bit.

    In every update the trunk runs once per minibatch: PPO's own loss and all terms share the policy latent and the
    action logits. The teacher answers once per rollout, in chunks and without a graph. Dropout looks are taken from the
    latent only, so rollouts, the probability ratio and clipping always see the clean policy. Filters that weigh
    positions (KDDG's student reading) scale each transition's policy loss, entropy bonus and terms; the value loss is
    left alone, since it has no label whose probability could be filtered (our decision). ``task_weight`` weighs all of
    PPO's loss, the value loss included: with 0 the teacher alone is learnt from.

    Who acts is the ``driver``: by default the student, and everything above holds. See
    :class:`kdrl.drivers.Driver` for what it means that a teacher or chance acts.

    ``save`` keeps the teacher and the terms' state in the archive and ``load`` goes on distilling.
    ``load(path, distillation=...)``, also of an archive of stock PPO, and :meth:`set_distillation` go on
    with another method. Stable-Baselines3's archives are unpickled when loaded: never load one you do not trust.

    Args:
        distillation: The method, or ``None`` for plain PPO.
        driver: Who acts, or ``None`` for the student.
        averaging: Averages the policy's weights over gradient steps (see :class:`kdrl.averaging.AveragedPPO`), or
            ``None``. One that needs a validation loss is given it by a callback that calls :meth:`after_validation`.

    All others, before these, are those of :class:`stable_baselines3.PPO`, documented there, with its defaults.

    Raises:
        InputError: with terms, an action space that is not Discrete, an observation space that is
            not Box, a teacher of other spaces or one that shares weights with the student, a term that
            needs what PPO cannot show (labels, images), or a rollout buffer class that is not an
            :class:`IndexedRolloutBuffer`; a driver that asks a teacher where the method has none, or
            beside ``target_kl``, which would stop every update that is off-policy; a policy or observations that
            averaging cannot serve.
        NonFiniteLossError: in :meth:`learn`, before the step that a loss or gradient that is not finite would
            take; or after a step so large that the policy's logits are not finite any more.
    """

    @checked
    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str | None,
        learning_rate: NotNegative | Schedule = 3e-4,
        n_steps: Count = 2048,
        batch_size: Count = 64,
        n_epochs: Count = 10,
        gamma: Fraction = 0.99,
        gae_lambda: Fraction = 0.95,
        clip_range: NotNegative | Schedule = 0.2,
        clip_range_vf: Positive | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: Number = 0.0,
        vf_coef: NotNegative = 0.5,
        max_grad_norm: Positive = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        target_kl: Positive | None = None,
        stats_window_size: Count = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: Seed | None = None,
        device: torch.device | str = "auto",
        _init_setup_model: bool = True,
        *,
        distillation: Distillation | None = None,
        driver: Driver | None = None,
        averaging: Averager | None = None,
    ) -> None:
        self.distillation, self.averaging = distillation, averaging
        self.driver = driver or Driver()
        # Rebuilds the distillation on load: its modules without their weights.
        self._distillation_structure: Distillation | None = None
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]  # None where an archive is loaded to play
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=_init_setup_model,
        )

    def _setup_model(self) -> None:
        distillation = self.distillation
        if distillation is None and self._distillation_structure is not None:
            distillation = filled(self._distillation_structure, self.device)
        if self.rollout_buffer_class in (None, RolloutBuffer) and not isinstance(self.observation_space, spaces.Dict):
            ours = issubclass(self.policy_kwargs.get("features_extractor_class", object), FrameExtractor)
            self.rollout_buffer_class = FrameBuffer if ours else IndexedRolloutBuffer
        super()._setup_model()
        self.distillation = None
        self.set_distillation(distillation)

    @classmethod
    def load(
        cls,
        path: str | pathlib.Path | io.BufferedIOBase,
        env: GymEnv | None = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        *,
        distillation: Distillation | None = None,
        averaging: Averager | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load an archive of this class or of stock PPO, as Stable-Baselines3 does.

        Args:
            path: The archive. It is unpickled: never load one you do not trust.
            env: The environment to go on in; ``None`` will do to play.
            device: Where the model goes.
            custom_objects: What to take instead of unpickling, by name.
            print_system_info: Print the versions it was saved with.
            force_reset: Reset ``env`` before training goes on.
            distillation: The method to go on with, or ``None`` for the one in the archive.
            averaging: The averager to go on with, afresh, or ``None`` for the one in the archive.
            kwargs: PPO's own arguments to change, such as ``n_steps``.
        """
        model = super().load(path, env, device, custom_objects, print_system_info, force_reset, **kwargs)
        if averaging is not None:
            model.set_averaging(averaging)
        if distillation is not None:
            model.set_distillation(distillation)
        return model

    def set_distillation(self, distillation: Distillation | None) -> None:
        """Train with another method from now on, or with ``None`` as plain PPO.

        Raises:
            InputError: as at construction; nothing is changed then.
        """
        if distillation is not None:
            check_method(distillation, self)
        check_driver(self.driver, distillation, self)
        self._behaviour = None
        self._train_no_more(self.distillation)
        if distillation is not None and not distillation.is_plain:
            # Always afresh: loading an archive fills what was bound with its weights afterwards.
            distillation.bind(PolicyLogits(self.policy), sample_view(self.policy, distillation.teacher))
        if distillation is not None and (parameters := distillation.trainable_parameters()):
            self.policy.optimizer.add_param_group({"params": parameters})
        self.distillation = distillation
        self._distillation_structure = None if distillation is None else structure_of(distillation)

    def save_stock(self, path: str | pathlib.Path | io.BufferedIOBase, averaged: bool = False) -> None:
        """Write an archive that ``stable_baselines3.PPO.load`` takes; see :func:`kdrl.export.save_stock`.

        Args:
            path: The archive.
            averaged: Whether to save the averaged weights.

        Raises:
            InputError: averaged weights where there are none.
        """
        from kdrl.export import save_stock

        save_stock(self, path, self.averaged_policy() if averaged else None)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_behaviour"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, variables = super()._get_torch_save_params()
        return modules + (["distillation"] if self.distillation is not None else []), variables

    def learn(
        self,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "PPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> Self:
        """As in Stable-Baselines3.

        Raises:
            NonFiniteLossError: the loss, its gradient or the policy's answer is not a number.
        """
        try:
            return super().learn(
                total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar
            )
        except ValueError as error:
            # Torch's distributions refuse such logits with an error of many lines.
            if "to satisfy the constraint" not in str(error):
                raise
            raise NonFiniteLossError(f"the policy's logits are not finite at step {self.num_timesteps}") from error

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """As in Stable-Baselines3, with the driver's actions."""
        if isinstance(rollout_buffer, IndexedRolloutBuffer):
            rollout_buffer.keep_raw(self._asked_raw())
        if self.driver.is_student:
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
        if self._behaviour is None or len(self._behaviour.by_teacher) != env.num_envs:
            self._behaviour = Behaviour(self.driver, env.num_envs)
        method = self.distillation
        teacher = None if method is None else method.teacher
        with_values = method is not None and method.needs("teacher_values")
        starts = functools.partial(getattr, self, "_last_episode_starts")
        with self._behaviour.steering(self.policy, teacher, starts, self.progress, with_values):
            return super().collect_rollouts(env, callback, rollout_buffer, n_rollout_steps)
