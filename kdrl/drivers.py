"""Who acts while a rollout is collected: the student, its teacher, or now one and now the other.

States are what a student learns from. A student that only ever sees its teacher's states can come to generalise
worse than its teacher (Weltevrede et al. 2025, arXiv 2505.16581: .56 against .74), and states that nobody would seek
help: Weltevrede et al. 2024 (Explore-Go, arXiv 2406.08069) begin episodes with random actions.
"""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

from common.arguments import CountFromZero, Fraction, checked_fields
from common.errors import InputError
from common.schedule import LinearSchedule, value_at
from common.teacher import Teacher
from kdrl.teaching import Answers, answer

Acted = tuple[Tensor, Tensor, Tensor]


@checked_fields
@dataclasses.dataclass(frozen=True)
class Driver:
    """Who acts. With the defaults the student, and training is what it is without a driver, bit for bit.

    Each episode is driven by the teacher or by the student from its beginning to its end, drawn with probability
    ``teacher_share`` when it begins (DAgger, arXiv 1011.0686, with whole episodes for single steps). Before that it
    may have random actions. Values are always the student's; the log-probability kept for PPO's ratio is that of
    whoever acted, given who it was, so that the ratio is the importance ratio ``π_student(a) / π_behaviour(a)``.

    What is not the student's own is off-policy: the ratio corrects each action, but neither the states nor the
    advantages, which are those of the behaviour (so it is in the code of ITER, arXiv 2006.05826, too); and PPO's clip
    bounds no ratio above 1 + ε where the advantage is negative, which is common here and rare on-policy. Without
    reward (``task_weight: 0``) none of this matters, and the states are all there is to choose.

    Args:
        teacher_share: Probability that an episode is the teacher's, in [0, 1], or a schedule over training.
        until: The part of training after which new episodes are the student's, in [0, 1].
        random_steps: K. Each episode begins with k uniformly random actions, k uniform in 0 .. K.

    Raises:
        InputError: a value outside its range.
    """

    teacher_share: Fraction | LinearSchedule = 0.0
    until: Fraction = 1.0
    random_steps: CountFromZero = 0

    def __post_init__(self) -> None:
        if isinstance(self.teacher_share, LinearSchedule) and max(self.teacher_share(0), self.teacher_share(1)) > 1:
            raise InputError(f"teacher_share={self.teacher_share} must be in [0, 1]")

    @property
    def asks_teacher(self) -> bool:
        """Whether the teacher ever acts."""
        return self.until > 0 and (isinstance(self.teacher_share, LinearSchedule) or self.teacher_share > 0)

    @property
    def is_student(self) -> bool:
        """Whether the student chooses every action."""
        return not self.asks_teacher and self.random_steps == 0

    def share_at(self, progress: float) -> float:
        """Probability that an episode beginning at ``progress`` is the teacher's."""
        return value_at(self.teacher_share, progress) if progress < self.until else 0.0


class Behaviour:
    """A driver at work in ``num_envs`` environments: whose episode each plays, and what the teacher said on the way.

    Args:
        driver: Who acts.
        num_envs: How many environments.

    Attributes:
        by_teacher: ``bool [num_envs]``, whose episode it is.
        random_left: ``int64 [num_envs]``, how many random actions are still to come.
        answers: What the teacher said at each step of the present rollout, where it was asked.
    """

    def __init__(self, driver: Driver, num_envs: int) -> None:
        self.driver = driver
        self.by_teacher: NDArray[np.bool_] = np.zeros(num_envs, dtype=np.bool_)
        self.random_left: NDArray[np.int64] = np.zeros(num_envs, dtype=np.int64)
        self.answers: list[Answers] = []

    @contextlib.contextmanager
    def steering(
        self,
        policy: ActorCriticPolicy,
        teacher: Teacher | None,
        starts: Callable[[], NDArray[np.bool_]],
        progress: float,
        with_values: bool = False,
    ) -> Iterator[None]:
        """Inside, ``policy(observations)`` answers with the behaviour's actions and their log-probabilities.

        The host's loop stays what it is, and so does ``policy`` for callbacks; its call alone is intercepted.

        Args:
            policy: The student.
            teacher: Who may act in its place.
            starts: Tells which environments are at an episode's beginning.
            progress: The part of training that is done.
            with_values: Whether to keep the teacher's values as well.
        """
        share = self.driver.share_at(progress)
        self.answers = []

        def steer(_: Any, inputs: tuple[Tensor, ...], output: Acted) -> Acted:
            self._begin(starts(), share)
            # Asked about all environments or none: a rollout's answers then serve its updates as well.
            if teacher is not None and (share > 0 or self.by_teacher.any()):
                self.answers.append(answer(teacher, inputs[0], with_values))
            return self._act(output, policy)

        # A hook: the host's loop takes no argument that says who acts, and a copy of it would not follow the host.
        handle = policy.register_forward_hook(steer)
        try:
            yield
        finally:
            handle.remove()

    def _begin(self, starts: NDArray[np.bool_], share: float) -> None:
        new = np.flatnonzero(starts)
        if len(new):
            # Torch's generator, so that the model's seed rules this too.
            self.by_teacher[new] = (torch.rand(len(new)) < share).numpy()
            self.random_left[new] = torch.randint(self.driver.random_steps + 1, (len(new),)).numpy()

    def _act(self, output: Acted, policy: ActorCriticPolicy) -> Acted:
        actions, values, log_probs = output
        at_random = self.random_left > 0
        self.random_left[at_random] -= 1
        if (self.by_teacher & ~at_random).any():
            rows = torch.as_tensor(self.by_teacher, device=actions.device)
            log_policy = self.answers[-1].logits.float().log_softmax(dim=1)
            drawn = torch.multinomial(log_policy.exp(), 1)
            actions = torch.where(rows, drawn[:, 0], actions)
            log_probs = torch.where(rows, log_policy.gather(1, drawn)[:, 0], log_probs)
        if at_random.any():
            rows = torch.as_tensor(at_random, device=actions.device)
            count = int(policy.action_space.n)  # type: ignore[attr-defined]
            actions = torch.where(rows, torch.randint_like(actions, count), actions)
            log_probs = torch.where(rows, torch.full_like(log_probs, -math.log(count)), log_probs)
        return actions, values, log_probs
