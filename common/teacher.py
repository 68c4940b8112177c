"""Frozen networks to learn from."""

import copy
import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import checked
from common.errors import InputError

Combination = Literal["probability", "logit"]


class Teacher(nn.Module):
    """One or several frozen networks that answer with logits.

    The networks are copied as they are now: the ones given stay as they were, and what becomes of them does not matter
    any more. The copies are frozen, stay in eval mode whatever mode the student is in, and build no graph. Any module
    from inputs to logits will do, whoever trained it: a network whose weights are in a safetensors file is
    ``network.load_state_dict(safetensors.torch.load_file(path))`` away, an ``nn.Sequential`` is one as it is, and
    ``kdrl.policy.load_teacher`` and ``kdseg.restore.load_teacher`` make one of finished runs.

    Several networks are one teacher, by default their mixture:

    - ``combine="probability"``: ``log(mean_k softmax(z_k))``, at temperature 1;
    - ``combine="logit"``: ``mean_k z_k``, after a softmax the geometric mean, which is sure only where all are.

    Args:
        networks: Modules from inputs to logits ``[B, C, *]``, at least one. Those of actor and critic also have a
            method ``judge``, from inputs to logits and values ``[B]``.
        combine: ``probability`` or ``logit``.

    Raises:
        ValueError: no network given, or at the first call networks with different classes.
        InputError: an unknown ``combine``.

    >>> Teacher([nn.Linear(8, 3), nn.Linear(8, 3)], combine="logit")(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    @checked
    def __init__(self, networks: Sequence[nn.Module], combine: Combination = "probability") -> None:
        super().__init__()
        if not networks:
            raise ValueError("a teacher needs at least one network")
        self.networks = nn.ModuleList(copy.deepcopy(network) for network in networks)
        self.combine = combine
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode: dropout and batch statistics of a teacher are never live."""
        return super().train(False)

    def check_apart(self, student: nn.Module) -> None:
        """Raise if ``student`` has a parameter that is the teacher's too, which is frozen and would never be learnt.

        Raises:
            InputError: they share weights.
        """
        students = {id(parameter) for parameter in student.parameters()}
        if any(id(parameter) in students for parameter in self.parameters()):
            raise InputError("the teacher shares weights with the student; give it a copy (copy.deepcopy) of them")

    @property
    def has_values(self) -> bool:
        """Whether every network can :meth:`judge`."""
        return all(callable(getattr(network, "judge", None)) for network in self.networks)

    @torch.no_grad()
    def forward(self, inputs: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits ``[B, C, *]`` without a graph; ``index``, which samples these are, does not matter here."""
        return self.differentiable(inputs)

    def differentiable(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, C, *]`` with the graph to ``inputs``, for who looks for inputs by what the teacher says."""
        return self._combined([network(inputs) for network in self.networks])

    @torch.no_grad()
    def judge(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, C]`` and values ``[B]``, the mean of the networks', without a graph."""
        pairs = [network.judge(inputs) for network in self.networks]  # type: ignore[operator]
        return self._combined([logits for logits, _ in pairs]), torch.stack([values for _, values in pairs]).mean(0)

    def _combined(self, answers: list[Tensor]) -> Tensor:
        if len(answers) == 1:
            return answers[0]
        shapes = {tuple(answer.shape) for answer in answers}
        if len(shapes) > 1:
            raise ValueError(f"the teachers' logits differ in shape: {sorted(shapes)}")
        logits = torch.stack([answer.float() for answer in answers])
        if self.combine == "logit":
            return logits.mean(dim=0)
        return F.log_softmax(logits, dim=2).logsumexp(dim=0) - math.log(len(answers))


class CrossFittedTeacher(Teacher):
    """K networks, each of which answers for the samples it has not seen.

    Network k was trained without fold k, and labels fold k. The fold of sample i is ``i % K``, or
    ``folds[i]``. Asked without ``index``, about inputs of no fold, the networks are averaged as in
    :class:`Teacher`.

    Args:
        networks: One a fold, in the folds' order, at least two.
        folds: ``int64 [N]``, each sample's fold, or ``None``.
        combine: As in :class:`Teacher`, where there is no fold.

    Raises:
        InputError: fewer than two networks, or a fold that no network belongs to.
    """

    folds: Tensor | None

    def __init__(
        self,
        networks: Sequence[nn.Module],
        folds: Tensor | None = None,
        combine: Combination = "probability",
    ) -> None:
        super().__init__(networks, combine)
        if len(networks) < 2:
            raise InputError(f"a cross-fitted teacher needs a network a fold, at least 2, got {len(networks)}")
        if folds is not None and not bool(((folds >= 0) & (folds < len(networks))).all()):
            raise InputError(f"folds must be in 0 .. {len(networks) - 1}, one network each")
        self.register_buffer("folds", folds)

    @torch.no_grad()
    def forward(self, inputs: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits ``[B, C, *]`` without a graph, row i by the network of the fold of ``index[i]``."""
        if index is None:
            return super().forward(inputs)
        fold = index % len(self.networks) if self.folds is None else self.folds[index]
        order: list[Tensor] = []
        answers: list[Tensor] = []
        for number, network in enumerate(self.networks):
            mine = (fold == number).nonzero()[:, 0]
            if len(mine):
                order.append(mine)
                answers.append(network(inputs[mine]))
        shapes = {tuple(answer.shape[1:]) for answer in answers}
        if len(shapes) > 1:
            raise ValueError(f"the teachers' logits differ in shape: {sorted(shapes)}")
        return torch.cat(answers)[torch.cat(order).argsort()]
