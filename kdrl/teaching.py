"""What a teacher says of a rollout's observations, asked once."""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from common.teacher import Teacher
from kdrl.buffers import IndexedRolloutBuffer
from kdrl.networks import Statistics

# Frames the teacher sees at once. Small chunks keep the peak memory low, and on a CPU they were faster than 4096,
# probably because larger buffers are mapped afresh at every call.
TEACHER_CHUNK = 256


@dataclasses.dataclass(frozen=True)
class Answers:
    """Logits ``[N, actions]``, and values ``[N]`` where they were asked for."""

    logits: Tensor
    values: Tensor | None = None

    def at(self, index: Tensor) -> "Answers":
        """Those to the observations of ``index``, ``int64 [B]``."""
        return Answers(self.logits[index], None if self.values is None else self.values[index])


def answer(teacher: Teacher, observations: Tensor, with_values: bool, index: Tensor | None = None) -> Answers:
    """The teacher's logits, and its values if wanted, for which it has no index."""
    return Answers(*teacher.judge(observations)) if with_values else Answers(teacher(observations, index))


class Translated(Teacher):
    """A teacher that hears raw observations, asked about what a student sees whose are normalised.

    What the student's statistics have clipped stays clipped, and what they were at an earlier time is not known; for
    its rollouts the teacher is shown the raw observations themselves.

    Args:
        teacher: It answers; nothing is copied.
        statistics: The student's.
    """

    def __init__(self, teacher: Teacher, statistics: Statistics) -> None:
        nn.Module.__init__(self)
        self.networks, self.combine = teacher.networks, teacher.combine
        self.teacher, self.statistics = teacher, statistics

    def forward(self, inputs: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits ``[B, actions]``."""
        logits: Tensor = self.teacher(self.statistics.undo(inputs), index)
        return logits

    def judge(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, actions]`` and values ``[B]``."""
        return self.teacher.judge(self.statistics.undo(inputs))

    def encodes(self, inputs: Tensor) -> list[Tensor]:
        """``[B, D_k]`` of each network's."""
        return self.teacher.encodes(self.statistics.undo(inputs))


def answer_rollout(
    teacher: Teacher, buffer: IndexedRolloutBuffer, with_values: bool, heard: Sequence[Answers] = ()
) -> Answers:
    """The teacher's answers to a rollout, environment-major as the buffer's minibatches are indexed.

    Args:
        teacher: Asked in chunks and without a graph; its index counts the rollout's observations step by step.
        buffer: The rollout; it is lined up. What it kept as ``raw`` is shown instead of its observations.
        with_values: Whether values are wanted.
        heard: What the teacher has already said while it drove, an item a step; used if it covers the rollout.
    """
    if len(heard) == buffer.buffer_size:
        # [steps][envs] to environment-major.
        steps = [Answers(step.logits[:, None], None if step.values is None else step.values[:, None]) for step in heard]
        joined = _joined(steps, dim=1)
        values = None if joined.values is None else joined.values.flatten()
        return Answers(joined.logits.flatten(0, 1), values)
    buffer.flatten()
    frames = torch.as_tensor(buffer.observations if buffer.raw is None else buffer.raw)
    order = torch.arange(len(frames), device=buffer.device).view(buffer.buffer_size, buffer.n_envs).T.flatten()
    chunks = zip(torch.split(frames, TEACHER_CHUNK), torch.split(order, TEACHER_CHUNK), strict=True)
    return _joined([answer(teacher, seen.to(buffer.device), with_values, index) for seen, index in chunks], dim=0)


def _joined(parts: Sequence[Answers], dim: int) -> Answers:
    values = [part.values for part in parts if part.values is not None]
    return Answers(torch.cat([part.logits for part in parts], dim), torch.cat(values, dim) if values else None)
