"""PPO that averages the policy's weights."""

from collections.abc import Iterator

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, nn

from common.averaging import Averager, has_batch_statistics, reestimate_batch_norm
from common.errors import InputError
from common.structure import filled, structure_of


class AveragedPPO(PPO):
    """What :class:`kdrl.DistilledPPO` is built on: PPO with an averager of the policy, its critic included.

    It is made as PPO is and averages once :meth:`set_averaging` has been called. Averaging reads the policy's weights
    after every gradient step; rollouts and updates are those of the policy in training. Progress is that of the latest
    rollout: a rollout's gradient steps all count or none does. ``save`` keeps the averager's state in the archive.

    Attributes:
        averaging: The averager, or ``None``.
    """

    averaging: Averager | None = None
    # Rebuilds the averager on load: its modules without their weights.
    _averaging_structure: Averager | None = None

    def _setup_model(self) -> None:
        averaging = self.averaging
        if averaging is None and self._averaging_structure is not None:
            averaging = filled(self._averaging_structure, self.device)
        super()._setup_model()
        self.set_averaging(averaging)

    def set_averaging(self, averaging: Averager | None) -> None:
        """Average from now on with ``averaging``, which forgets what it has averaged, or with ``None`` not at all.

        Args:
            averaging: One that needs a validation loss is given it by a callback that calls :meth:`after_validation`.

        Raises:
            InputError: a policy or observations that averaging cannot serve; nothing is changed then.
        """
        if averaging is not None and self.use_sde:
            raise InputError("averaging cannot copy a policy with state-dependent noise; set use_sde=False")
        dictionary = isinstance(self.observation_space, spaces.Dict)
        if averaging is not None and averaging.reestimates and dictionary and has_batch_statistics(self.policy):
            raise InputError("buffers=reestimate needs array observations, not a dictionary; use buffers=average")
        self.averaging = averaging
        self._averaging_structure = None
        if averaging is not None:
            self._averaging_structure = structure_of(averaging)
            # That of the latest minibatch has a graph, which cannot be copied.
            self.policy.action_dist.distribution = None  # type: ignore[assignment]
            averaging.bind(self.policy)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        modules, variables = super()._get_torch_save_params()
        return modules + (["averaging"] if self.averaging is not None else []), variables

    @property
    def progress(self) -> float:
        """The part of training in [0, 1] that is done, as of the latest rollout; the last one may end beyond it."""
        return min(max(1.0 - self._current_progress_remaining, 0.0), 1.0)

    def _average(self) -> None:
        """Take in the policy after a gradient step."""
        if self.averaging is not None:
            self.averaging.after_step(self.policy, self.progress)

    def after_validation(self, loss: float) -> None:
        """Tell the averager the validation loss of the policy that it asked for."""
        if self.averaging is not None:
            self.averaging.after_validation(self.policy, loss, self.progress)

    def averaged_policy(self) -> ActorCriticPolicy:
        """A copy of the policy with averaged weights, frozen and in eval mode, to be used like ``policy``.

        Raises:
            InputError: there is no averaging, or training ended before it started.
        """
        if self.averaging is None:
            raise InputError("nothing is averaged; give DistilledPPO(..., averaging=WAKD())")
        policy = self.averaging.finish()
        assert isinstance(policy, ActorCriticPolicy)
        self.reestimate(policy)
        return policy

    def reestimate(self, policy: nn.Module) -> None:
        """Give a policy BatchNorm statistics of the latest rollout, if that is what the averager leaves to do.

        Raises:
            InputError: there is no rollout, as in a model just loaded.
        """
        if self.averaging is not None and self.averaging.reestimates:
            reestimate_batch_norm(policy, self._minibatches(), lambda frames: policy(frames, deterministic=True))

    def _minibatches(self) -> Iterator[Tensor]:
        buffer = self.rollout_buffer
        if not buffer.full:
            raise InputError("buffers=reestimate needs a rollout; call learn first, or use buffers=average")
        frames = torch.as_tensor(buffer.observations.reshape(-1, *buffer.obs_shape))
        yield from torch.split(frames, self.batch_size)
