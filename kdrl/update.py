"""PPO's update with a method's terms in its loss, and what it writes to the log."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from stable_baselines3 import PPO
from stable_baselines3.common.utils import explained_variance
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor

from common.distillation import Distillation
from common.errors import NonFiniteLossError
from common.schedule import value_at
from common.teacher import Teacher
from kdrl.averaging import AveragedPPO
from kdrl.buffers import IndexedRolloutBuffer, Samples
from kdrl.checks import normalizer_of
from kdrl.drivers import Behaviour
from kdrl.minibatch import one_pass
from kdrl.networks import PolicyLogits, Statistics, hears
from kdrl.objective import objective
from kdrl.teaching import Answers, Translated, answer_rollout


class TermsPPO(AveragedPPO):
    """What :class:`kdrl.DistilledPPO` is built on: PPO whose updates have a method's terms in their loss.

    Attributes:
        distillation: The method, or ``None`` for plain PPO.
    """

    distillation: Distillation | None = None
    # Who acted in the rollout, where it was not the student alone.
    _behaviour: Behaviour | None = None

    def _train_no_more(self, distillation: Distillation | None) -> None:
        """Take out of the optimiser what a method's terms had trained beside the policy."""
        optimizer = self.policy.optimizer
        if distillation is not None and (parameters := distillation.trainable_parameters()):
            optimizer.param_groups.pop()
            for parameter in parameters:
                optimizer.state.pop(parameter, None)

    def train(self) -> None:
        """Update the policy on the current rollout: PPO's epochs, with the terms in the loss.

        Raises:
            NonFiniteLossError: naming the step; the parameters are those before it.
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        distillation = None if self.distillation is None or self.distillation.is_plain else self.distillation
        if distillation is not None:
            distillation.train()
        answers = None if distillation is None else self._teacher_answers(distillation)
        teacher = None if distillation is None else self._translated(distillation.teacher)
        student = None if distillation is None else PolicyLogits(self.policy)
        logs: dict[str, list[Tensor | float]] = defaultdict(list)
        for epoch in range(self.n_epochs):
            logs["train/approx_kl"].clear()
            stop = False
            for samples in self.rollout_buffer.get(self.batch_size):
                if distillation is not None and student is not None:
                    distillation.before_step(student, self.progress)
                loss, approx_kl = self._loss(samples, distillation, answers, teacher, logs)
                if self.target_kl is not None and approx_kl > 1.5 * self.target_kl:
                    stop = True
                    if self.verbose >= 1:
                        print(f"Early stopping at step {epoch} due to reaching max kl: {approx_kl:.2f}")
                    break
                self._step(loss)
                if distillation is not None and student is not None:
                    distillation.after_step(student, self.progress)
            self._n_updates += 1
            if stop:
                break
        if distillation is not None and student is not None:
            distillation.after_epoch(student, self.progress)
        record_update(self, logs, loss)

    def _step(self, loss: Tensor) -> None:
        if not torch.isfinite(loss):
            raise NonFiniteLossError(f"the loss is {loss.item()} at step {self.num_timesteps}")
        self.policy.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        # The terms' own parameters apart: the policy is clipped as without them.
        groups = [list(self.policy.parameters())]
        if self.distillation is not None and (own := self.distillation.trainable_parameters()):
            groups.append(own)
        for parameters in groups:
            norm = torch.nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)
            if not torch.isfinite(norm):
                raise NonFiniteLossError(f"the gradient's norm is {norm.item()} at step {self.num_timesteps}")
        self.policy.optimizer.step()
        self._average()

    def _loss(
        self,
        samples: Samples,
        distillation: Distillation | None,
        answers: Answers | None,
        teacher: Teacher | None,
        logs: dict[str, list[Tensor | float]],
    ) -> tuple[Tensor, float]:
        batch = one_pass(self, samples, distillation, answers, teacher)
        parts = objective(self, samples, batch)
        # Means first, then the sum, as in stock PPO: float addition is not associative.
        policy_loss, entropy_loss = parts.surrogate.mean(), parts.bonus.mean()
        if distillation is None or batch.view is None:
            loss = policy_loss + self.ent_coef * entropy_loss + self.vf_coef * parts.value_loss
        else:
            output = distillation(batch.view, parts.surrogate + self.ent_coef * parts.bonus)
            task_weight = value_at(distillation.task_weight, self.progress)
            loss = output.loss + task_weight * self.vf_coef * parts.value_loss
            for name, value in output.metrics.items():
                logs[f"distillation/{name}"].append(value)
        logs["train/clip_fraction"].append(parts.clip_fraction)
        logs["train/approx_kl"].append(parts.approx_kl)
        logs["train/policy_gradient_loss"].append(policy_loss.detach())
        logs["train/value_loss"].append(parts.value_loss.detach())
        logs["train/entropy_loss"].append(entropy_loss.detach())
        return loss, parts.approx_kl.item() if self.target_kl is not None else 0.0

    def _asked_raw(self) -> VecNormalize | None:
        """What normalises the student's observations, where its teacher is to be shown them as they were before."""
        teacher, normalizer = None if self.distillation is None else self.distillation.teacher, normalizer_of(self)
        return normalizer if teacher is not None and hears(teacher, normalizer) == "raw" else None

    def _translated(self, teacher: Teacher | None) -> Teacher | None:
        """The teacher for what the student sees."""
        normalizer = self._asked_raw()
        if teacher is None or normalizer is None:
            return teacher
        return Translated(teacher, Statistics(normalizer).to(self.device))

    def _teacher_answers(self, distillation: Distillation) -> Answers | None:
        """What the teacher says of the rollout, environment-major."""
        if distillation.teacher is None:
            return None
        heard = () if self._behaviour is None else self._behaviour.answers
        with_values = distillation.needs("teacher_values")
        assert isinstance(self.rollout_buffer, IndexedRolloutBuffer)
        return answer_rollout(distillation.teacher, self.rollout_buffer, with_values, heard)


def record_update(model: PPO, logs: Mapping[str, list[Tensor | float]], loss: Tensor) -> None:
    """Record the means of ``logs`` over an update's minibatches, the last loss, and what PPO itself records."""
    for name, values in logs.items():
        model.logger.record(name, float(torch.as_tensor(values).mean()))
    buffer = model.rollout_buffer
    model.logger.record("train/loss", loss.item())
    model.logger.record(
        "train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten())
    )
    if hasattr(model.policy, "log_std"):
        model.logger.record("train/std", torch.exp(model.policy.log_std).mean().item())
    model.logger.record("train/n_updates", model._n_updates, exclude="tensorboard")
    model.logger.record("train/clip_range", model.clip_range(model._current_progress_remaining))  # type: ignore[operator]
    if model.clip_range_vf is not None:
        value_range = model.clip_range_vf(model._current_progress_remaining)  # type: ignore[operator]
        model.logger.record("train/clip_range_vf", value_range)
