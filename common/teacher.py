"""Frozen networks to learn from."""

import copy
import math
from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import Positive, checked
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
            method ``judge``, from inputs to logits and values ``[B]``; those that show features have ``encode``.
        combine: ``probability`` or ``logit``.
        shares: What each network weighs in the mean, in any unit; ``None`` weighs all alike.

    Attributes:
        answering: ``bool [N, K]``, which networks answer for sample i of the student's data, or ``None``: all of them.
            Asked without an index, about other inputs, all answer.

    Raises:
        ValueError: no network given, or at the first call networks with different classes.
        InputError: an unknown ``combine``, or not a positive share for each network.

    >>> Teacher([nn.Linear(8, 3), nn.Linear(8, 3)], combine="logit")(torch.zeros(5, 8)).shape
    torch.Size([5, 3])
    """

    @checked
    def __init__(
        self,
        networks: Sequence[nn.Module],
        combine: Combination = "probability",
        shares: Sequence[Positive] | None = None,
    ) -> None:
        super().__init__()
        if not networks:
            raise ValueError("a teacher needs at least one network")
        if shares is not None and len(shares) != len(networks):
            raise InputError(f"shares={list(shares)} must be {len(networks)} numbers, one a network")
        self.shares = None if shares is None else [float(share) for share in shares]
        self.answering: Tensor | None
        self.register_buffer("answering", None, persistent=False)
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

    def answering_for(self, index: Tensor) -> Tensor | None:
        """Which networks answer for these samples ``[B, K]``, or ``None``: all for each."""
        return None if self.answering is None else self.answering[index]

    @torch.no_grad()
    def forward(self, inputs: Tensor, index: Tensor | None = None) -> Tensor:
        """Logits ``[B, C, *]`` without a graph; ``index`` says which samples these are, where only some answer."""
        answering = None if index is None else self.answering_for(index)
        if answering is None:
            return self.differentiable(inputs)
        order: list[Tensor] = []
        answers: list[Tensor] = []
        choices, chosen = torch.unique(answering, dim=0, return_inverse=True)
        for number, choice in enumerate(choices):
            mine, asked = (chosen == number).nonzero()[:, 0], choice.nonzero()[:, 0].tolist()
            order.append(mine)
            answers.append(self._combined([self.networks[network](inputs[mine]) for network in asked], asked))
        shapes = {tuple(answer.shape[1:]) for answer in answers}
        if len(shapes) > 1:
            raise ValueError(f"the teachers' logits differ in shape: {sorted(shapes)}")
        return torch.cat(answers)[torch.cat(order).argsort()]

    def differentiable(self, inputs: Tensor) -> Tensor:
        """Logits ``[B, C, *]`` with the graph to ``inputs``, for who looks for inputs by what the teacher says."""
        return self._combined([network(inputs) for network in self.networks], range(len(self.networks)))

    @torch.no_grad()
    def encodes(self, inputs: Tensor) -> list[Tensor]:
        """What each network's encoder makes of inputs, ``[B, D_k, *]``, without a graph.

        Raises:
            InputError: a network without a method ``encode``.
        """
        for network in self.networks:
            if not callable(getattr(network, "encode", None)):
                raise InputError(f"the teacher's {type(network).__name__} does not show its features; use method=kd")
        return [network.encode(inputs) for network in self.networks]  # type: ignore[operator]

    @torch.no_grad()
    def judge(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits ``[B, C]`` and values ``[B]``, the mean of the networks', without a graph."""
        pairs = [network.judge(inputs) for network in self.networks]  # type: ignore[operator]
        asked = range(len(pairs))
        values = torch.stack([values for _, values in pairs])
        mean = values.mean(0) if self.shares is None else (self._shares(asked, values) * values).sum(0)
        return self._combined([logits for logits, _ in pairs], asked), mean

    def _shares(self, asked: Sequence[int], like: Tensor) -> Tensor:
        """What each of the networks that were asked weighs, in all 1, with dimensions like ``[K, ...]``."""
        shares = like.new_tensor([1.0 if self.shares is None else self.shares[network] for network in asked])
        return (shares / shares.sum()).view(-1, *[1] * (like.dim() - 1))

    def _combined(self, answers: list[Tensor], asked: Sequence[int]) -> Tensor:
        if len(answers) == 1:
            return answers[0]
        shapes = {tuple(answer.shape) for answer in answers}
        if len(shapes) > 1:
            raise ValueError(f"the teachers' logits differ in shape: {sorted(shapes)}")
        logits = torch.stack([answer.float() for answer in answers])
        if self.shares is None:
            if self.combine == "logit":
                return logits.mean(dim=0)
            return F.log_softmax(logits, dim=2).logsumexp(dim=0) - math.log(len(answers))
        shares = self._shares(asked, logits)
        if self.combine == "logit":
            return (shares * logits).sum(dim=0)
        return (F.log_softmax(logits, dim=2) + shares.log()).logsumexp(dim=0)


class CrossFittedTeacher(Teacher):
    """K networks, each of which answers for the samples it has not seen.

    Network k was trained without fold k, and labels fold k. The fold of sample i is ``i % K``, or
    ``folds[i]``. Asked without ``index``, about inputs of no fold, the networks are averaged as in
    :class:`Teacher`.

    Args:
        networks: One a fold, in the folds' order, at least two.
        folds: ``int64 [N]``, each sample's fold, or ``None``.
        combine: As in :class:`Teacher`, where there is no fold.
        shares: As in :class:`Teacher`, where there is no fold.

    Raises:
        InputError: fewer than two networks, or a fold that no network belongs to.
    """

    folds: Tensor | None

    def __init__(
        self,
        networks: Sequence[nn.Module],
        folds: Tensor | None = None,
        combine: Combination = "probability",
        shares: Sequence[Positive] | None = None,
    ) -> None:
        super().__init__(networks, combine, shares)
        if len(networks) < 2:
            raise InputError(f"a cross-fitted teacher needs a network a fold, at least 2, got {len(networks)}")
        if folds is not None and not bool(((folds >= 0) & (folds < len(networks))).all()):
            raise InputError(f"folds must be in 0 .. {len(networks) - 1}, one network each")
        self.register_buffer("folds", folds)

    def answering_for(self, index: Tensor) -> Tensor:
        """One network for each sample ``[B, K]``: that of its fold."""
        fold = index % len(self.networks) if self.folds is None else self.folds[index]
        return F.one_hot(fold, len(self.networks)).bool()
