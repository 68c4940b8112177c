"""The interface of every weight averager."""

import copy
import math
from typing import ClassVar, Literal, Self

from torch import nn

from common.arguments import Checked, Share
from common.averaging.batch_norm import has_batch_statistics
from common.averaging.running_mean import RunningMean
from common.errors import InputError, NonFiniteLossError

Buffers = Literal["average", "reestimate"]
# Adapters compute progress in floating point, some as 1 − (1 − x): without slack, 10 % could begin a step late.
SLACK = 1e-9


class Averager(Checked, nn.Module):
    """Averages the weights that training passes through, without touching them.

    The order of calls: :meth:`check` and :meth:`bind` before training; :meth:`after_step` after every step of the
    optimiser; at every validation, after the step's :meth:`after_step`, the source-validation loss of the network
    that :meth:`to_validate` names goes to :meth:`after_validation`; :meth:`finish` at the end. The state
    (``state_dict`` after :meth:`bind`) continues an interrupted training bit for bit.

    This class keeps one copy of the weights; the copy is frozen and in eval mode.

    Args:
        start: Part of training in [0, 1) after which iterates count: those with ``progress ≥ start``.
        buffers: What becomes of BatchNorm's statistics, which belong to no average of weights: with ``reestimate``
            they are those of the latest iterate, and wrong, until the adapter calls
            :func:`common.averaging.reestimate_batch_norm` (a pass over training inputs); ``average`` averages them
            like weights, which costs nothing and can be far off where weights of early training count. A network
            without such statistics has its floating-point buffers averaged either way. Integer buffers are always
            those of the latest iterate.
        name: The averager's name in records.

    Raises:
        InputError: a value outside its range.

    Attributes:
        needs_validation: Whether :meth:`after_validation` must be called.
    """

    needs_validation: ClassVar[bool] = False

    def __init__(self, start: Share, buffers: Buffers, name: str) -> None:
        super().__init__()
        self.start = start
        self.buffers_from = buffers
        self.name = name
        self.mean: RunningMean | None = None
        self._has_batch_statistics = True  # until bind has seen the network

    def check(self, validation_available: bool, adapter: str) -> None:
        """Raise unless ``adapter`` can give what this averager needs.

        Raises:
            InputError: it needs a validation loss and there is none.
        """
        if self.needs_validation and not validation_available:
            raise InputError(
                f"averaging={self.name} needs a validation loss on source domains, which {adapter} does not have; "
                "use averaging=wakd or averaging=ema"
            )

    @property
    def reestimates(self) -> bool:
        """Whether BatchNorm's statistics are to be re-estimated before the averaged network is used."""
        return self.buffers_from == "reestimate" and self._has_batch_statistics

    def bind(self, model: nn.Module) -> None:
        """Copy the network. Called once, before training and before a state is loaded."""
        self.mean = self._new_mean(model)

    def _new_mean(self, model: nn.Module) -> RunningMean:
        self._has_batch_statistics = has_batch_statistics(model)
        return RunningMean(model, average_buffers=not self.reestimates)

    def _current(self) -> RunningMean:
        if self.mean is None:
            raise RuntimeError("the averager knows no network; call bind(model) first")
        return self.mean

    def _counts(self, progress: float) -> bool:
        return progress >= self.start - SLACK

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Take in the weights after a step of the optimiser.

        Args:
            model: The network in training.
            progress: Part of training done, this step included, in [0, 1].
        """
        mean = self._current()
        if self._counts(progress):
            mean.add(model, self._weight(mean.count))

    def _weight(self, count: int) -> float:
        """The share of the next iterate when ``count`` are in the average."""
        return 1.0 / (count + 1)

    def to_validate(self, model: nn.Module) -> nn.Module | None:
        """The network whose loss :meth:`after_validation` wants now, or ``None`` if it wants none."""
        return None

    def after_validation(self, model: nn.Module, loss: float, progress: float) -> None:
        """Take in a source-validation loss; nothing here.

        Args:
            model: The network in training, as it was at the latest :meth:`after_step`.
            loss: Loss of the network that :meth:`to_validate` named; lower is better.
            progress: Part of training done, in [0, 1].

        Raises:
            NonFiniteLossError: the loss is not a number or infinite.
        """
        if not math.isfinite(loss):
            raise NonFiniteLossError(f"the validation loss is {loss} at {progress:.1%} of training")

    @property
    def begun(self) -> bool:
        """Whether any iterate is in the average."""
        return self._iterates() > 0

    @property
    def averaged(self) -> nn.Module:
        """The average as it stands, to be read only; the network as bound while nothing is averaged yet."""
        return self._current().module

    def finish(self) -> nn.Module:
        """A copy of the averaged network, frozen and in eval mode.

        Raises:
            InputError: training ended before averaging started.
        """
        if self._iterates() == 0:
            raise InputError(f"averaging={self.name}: training ended before start={self.start}; nothing is averaged")
        return copy.deepcopy(self._result())

    def _iterates(self) -> int:
        return self._current().count

    def _result(self) -> nn.Module:
        return self.averaged

    def train(self, mode: bool = True) -> Self:
        """Stays in eval mode, whatever mode the student is in."""
        return super().train(False)
