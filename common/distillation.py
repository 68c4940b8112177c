"""A method: named terms, weighed and summed beside the task's loss."""

import dataclasses
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import checked
from common.errors import InputError
from common.losses import mean_over_valid
from common.schedule import Weight, value_at
from common.tally import Tally
from common.teacher import Teacher
from common.terms.base import Need, Term, TermOutput
from common.view import View


@dataclasses.dataclass
class DistillationOutput:
    """The total loss of a minibatch and what to log of it.

    Attributes:
        loss: Scalar with its graph.
        metrics: Empty unless ``view.log``. Detached scalars: ``task`` and each term's name (before their
            weights and the filter of positions), ``<term>/<metric>`` and ``<term>/weight``.
    """

    loss: Tensor
    metrics: dict[str, Tensor | float]


class Distillation(nn.Module):
    """``loss = task_weight · task + Σ_i weight_i · term_i``, reduced over valid positions.

    Terms that filter positions (KDDG's student reading) scale task and terms alike, position by
    position, before the mean. Without terms this is plain training, and adapters then take the
    host library's own path.

    Args:
        terms: Terms by a name of your choice, which is the name in the logs.
        task_weight: Factor of the task's own loss, constant or a schedule over training.
        teacher: The frozen teacher, where a term needs one.
        name: The method's name in records.

    Raises:
        InputError: a term needs a teacher and none is given, or a term is named like the task.
    """

    @checked
    def __init__(
        self,
        terms: Mapping[str, Term] | None = None,
        task_weight: Weight = 1.0,
        teacher: Teacher | None = None,
        name: str = "custom",
    ) -> None:
        super().__init__()
        for key in terms or {}:
            # Torch keeps modules as attributes, and "task" is the task's own loss in the logs.
            if key == "task" or "." in key or hasattr(nn.ModuleDict, key):
                raise InputError(
                    f"a term cannot be named {key!r}; use another name, such as {key.replace('.', '_')}_term"
                )
        self.terms = nn.ModuleDict(dict(terms or {}))
        self.task_weight = task_weight
        self.name = name
        needy = [key for key, term in self._named_terms() if "teacher" in term.needs]
        if needy and teacher is None:
            raise InputError(
                f"method={name}: {needy[0]} needs a teacher; give teacher=RUN, the folder of a finished run"
            )
        for _, term in self._named_terms():
            if teacher is not None and not isinstance(teacher, term.teacher_class):
                teacher = term.teacher_class(list(teacher.networks), combine=teacher.combine, shares=teacher.shares)
        # A teacher that no term asks would only cost time and memory.
        self.teacher = teacher if needy else None
        self.tally = Tally()

    def _named_terms(self) -> Iterable[tuple[str, Term]]:
        for key, term in self.terms.items():
            assert isinstance(term, Term)
            yield key, term

    @property
    def is_plain(self) -> bool:
        """Whether this is the task's loss alone."""
        return len(self.terms) == 0 and self.task_weight == 1.0

    def check_needs(self, provided: Iterable[Need], adapter: str) -> None:
        """Raise unless ``adapter`` provides what every term needs.

        Raises:
            InputError: naming the term, what it needs, the adapter, and what to use instead if there is something.
        """
        available = set(provided)
        for key, term in self._named_terms():
            missing = sorted(set(term.needs) - available)
            if missing:
                instead = f"; {term.analogue}" if term.analogue else ""
                raise InputError(
                    f"method={self.name}: {key} needs {', '.join(missing)}, which {adapter} does not have{instead}"
                )

    def check_per_position(self, task: str) -> None:
        """Raise if a term filters positions, of which a task's loss is not made.

        Raises:
            InputError: naming the term and the loss.
        """
        for key, term in self._named_terms():
            if term.filters_positions:
                raise InputError(
                    f"method={self.name}: {key} filters the task's loss position by position, and {task} is not made of"
                    " positions; use another"
                )

    def check_shared(self) -> None:
        """Raise unless every term can be trained by several processes, each of which sees its share of the samples.

        Raises:
            InputError: naming the term.
        """
        for key, term in self._named_terms():
            if term.remembers_samples:
                raise InputError(
                    f"method={self.name}: {key} remembers every sample, and each of several devices sees only some;"
                    " train on one"
                )

    def bind(self, network: nn.Module, view: View) -> None:
        """Let every term make what depends on the student; see :meth:`common.terms.base.Term.bind`.

        The generator of random numbers goes on as if they had made nothing: all methods see the same batches.
        """
        with torch.random.fork_rng(devices=[]):
            for _, term in self._named_terms():
                term.bind(network, view)

    def before_step(self, network: nn.Module, progress: float) -> None:
        """Tell every term that a minibatch comes."""
        for _, term in self._named_terms():
            term.before_step(network, progress)

    def after_step(self, network: nn.Module, progress: float) -> None:
        """Tell every term that the optimiser has made a step."""
        for _, term in self._named_terms():
            term.after_step(network, progress)

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """Tell every term that a pass over the data, or a rollout's updates, is over."""
        for _, term in self._named_terms():
            term.after_epoch(network, progress)

    @property
    def uses_unlabelled(self) -> bool:
        """Whether any term learns from positions without a label."""
        return any(term.uses_unlabelled for _, term in self._named_terms())

    def needs(self, need: Need) -> bool:
        """Whether any term asks for ``need``."""
        return any(need in term.needs for _, term in self._named_terms())

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The terms' own parameters, for the optimiser; the teacher has none."""
        return [parameter for parameter in self.terms.parameters() if parameter.requires_grad]

    def forward(self, view: View, task: Tensor) -> DistillationOutput:
        """Total loss of one minibatch.

        Args:
            view: The minibatch.
            task: The task's loss, ``[B, *]`` per position, of which labelled ones count, or a scalar, which filters
                leave alone.
        """
        labelled = view.only_labelled()
        views = {key: view if term.uses_unlabelled else labelled for key, term in self._named_terms()}
        outputs = {key: term(views[key]) for key, term in self._named_terms()}
        position_weight = _product(outputs.values())
        loss = value_at(self.task_weight, view.progress) * _reduce(task, labelled, position_weight)
        metrics: dict[str, Tensor | float] = {"task": _reduce(task.detach(), labelled, None)} if view.log else {}
        for key, term in self._named_terms():
            output = outputs[key]
            weight = value_at(term.weight, view.progress)
            share = weight * _reduce(output.loss, views[key], position_weight)
            loss = loss + share
            if self.training:
                self.tally.count(key, {"": share.detach().abs(), **output.acts}, output.shares)
            if view.log:
                metrics[key] = _reduce(output.loss.detach(), views[key], None)
                metrics[f"{key}/weight"] = weight
                told = {**output.shares, **output.metrics}
                metrics.update({f"{key}/{name}": value for name, value in told.items()})
        return DistillationOutput(loss, metrics)


def _product(outputs: Iterable[TermOutput]) -> Tensor | None:
    product: Tensor | None = None
    for output in outputs:
        if output.position_weight is not None:
            product = output.position_weight if product is None else product * output.position_weight
    return product


def _reduce(values: Tensor, view: View, position_weight: Tensor | None) -> Tensor:
    """Mean over the valid positions of ``values``, on whatever grid they live."""
    if values.dim() == 0:
        return values
    if position_weight is not None and position_weight.shape != values.shape:
        position_weight = _pool(position_weight, view.valid, values.shape[1:])
    return mean_over_valid(values, view.valid_on(values.shape[1:]), position_weight)


def _pool(position_weight: Tensor, valid: Tensor | None, grid: torch.Size) -> Tensor:
    """Weights on a term's coarser grid, or of whole samples: the mean over the valid pixels below."""
    weights = position_weight[:, None]
    height, width = grid if len(grid) else (1, 1)
    if valid is None:
        return F.adaptive_avg_pool2d(weights, (height, width))[:, 0].view(-1, *grid)
    # An invalid pixel has no label, so its weight says nothing.
    weights = weights.masked_fill(~valid[:, None], 0.0)
    counted = F.adaptive_avg_pool2d(valid[:, None].to(weights.dtype), (height, width))
    # The count is positive wherever the coarser cell is valid; elsewhere the value is not used.
    pooled = F.adaptive_avg_pool2d(weights, (height, width))
    return (pooled / counted.clamp(min=torch.finfo(weights.dtype).tiny))[:, 0].view(-1, *grid)
