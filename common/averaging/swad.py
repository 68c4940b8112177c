"""Stochastic weight averaging densely (SWAD): Cha et al., 2021 (arXiv 2102.08604)."""

import copy
import math
from typing import Annotated, Any, ClassVar

from torch import nn

from common.arguments import Count, Range, Share
from common.averaging.base import Averager, Buffers
from common.averaging.running_mean import RunningMean
from common.errors import InputError


class SWAD(Averager):
    """The mean of every iterate from the start to the end of the validation loss's valley.

    With ``l_i`` the loss of the instantaneous network at the i-th validation::

        t_s       = first i with l_i = min(l_i .. l_{i + N_s − 1})
        threshold = r · mean(l_{t_s} .. l_{t_s + N_s − 1})
        t_e       = first i ≥ t_s with min(l_i .. l_{i + N_e − 1}) > threshold
        θ̄         = mean of every iterate from the one validated at t_s to the one before that validated at t_e

    When the rule does not decide, this is what :meth:`finish` averages (and ``averaged``, as if training ended now):

    - never ended: everything from t_s to the last iterate; a loss above the threshold at fewer than
      N_e validations ends nothing;
    - never converged: the windows are cut at the last validation V, so t_s is the first i with
      ``l_i = min(l_i .. l_V)``. For falling losses that is V: the last validated iterate and those after it;
    - never validated: every iterate since ``start``.

    How: a segment is a validated iterate and those up to the next validation. While t_s is sought, the segments from
    the first candidate on that no later loss has beaten are kept as one mean each, at most N_s; later there is
    the average and one mean of the iterates since the loss rose above the threshold, which count all or not at
    all. Means are merged by their counts, so every iterate weighs the same. Keeps max(N_s, 3) copies of the weights.

    Ours: the rule is the paper's, kept to the letter where the authors' code counts segments at the valley's edge
    twice, lets segments end with the validated iterate, and ends a valley at the end of training after fewer than
    N_e losses; the fallbacks. A second validation of one iterate, and one before the first iterate, is ignored.

    Args:
        n_s: N_s, validations that must not improve on a start; at least 1, the paper's 3.
        n_e: N_e, validations above the threshold that make an end; at least 1, the paper's 6.
        r: Factor of the threshold, at least 1; the paper's 1.3 (0.3 in code that adds the 1).
        start: Part of training in [0, 1) before which neither iterates nor losses count.
        buffers: See :class:`Averager`.
        name: See :class:`Averager`.

    Raises:
        InputError: a value outside its range.
    """

    needs_validation: ClassVar[bool] = True

    def __init__(
        self,
        n_s: Count = 3,
        n_e: Count = 6,
        r: Annotated[float, Range(1)] = 1.3,
        start: Share = 0.0,
        buffers: Buffers = "reestimate",
        name: str = "swad",
    ) -> None:
        super().__init__(start, buffers, name)
        self.n_s, self.n_e, self.r = n_s, n_e, r
        self._forget()

    def _forget(self) -> None:
        self.losses: list[float] = []  # of the segments, while the valley's start is sought
        self.threshold: float | None = None
        self.above = 0  # latest validations in a row above the threshold
        self.ended = False
        self.fresh = False  # whether there was a step since the last validation
        # Segments in use, oldest first, by their place in means; the last one is growing.
        self.segments = [0]

    def bind(self, model: nn.Module) -> None:
        """Copy the network, once for each mean that may be needed at a time."""
        self.means = nn.ModuleList(self._new_mean(model) for _ in range(max(self.n_s, 3)))
        self._forget()

    def _segment(self, place: int) -> RunningMean:
        if not hasattr(self, "means"):
            raise RuntimeError("the averager knows no network; call bind(model) first")
        mean = self.means[place]
        assert isinstance(mean, RunningMean)
        return mean

    def _iterates(self) -> int:
        return sum(self._segment(place).count for place in self.segments)

    def after_step(self, model: nn.Module, progress: float) -> None:
        """Take in the weights after a step of the optimiser, unless the valley has ended."""
        growing = self._segment(self.segments[-1])
        if self._counts(progress) and not self.ended:
            growing.add(model)
            self.fresh = True

    def to_validate(self, model: nn.Module) -> nn.Module | None:
        """The network in training, until the valley has ended."""
        return model if self.fresh and not self.ended else None

    def after_validation(self, model: nn.Module, loss: float, progress: float) -> None:
        """Move the valley's start or end by the loss of the network in training.

        Raises:
            InputError: a negative loss, of which no threshold can be made.
            NonFiniteLossError: the loss is not a number or infinite.
        """
        if self.ended or not self.fresh:
            return
        super().after_validation(model, loss, progress)
        if loss < 0:
            raise InputError(f"averaging={self.name}: the validation loss is {loss}; it must not be negative")
        self.fresh = False
        self._cut(model)
        if self.threshold is None:
            self._seek(loss)
        else:
            self._follow(loss)

    def _cut(self, model: nn.Module) -> None:
        """Begin a segment with the iterate just validated, which was added to the one before."""
        self._segment(self.segments[-1]).remove(model)
        free = next(place for place in range(len(self.means)) if place not in self.segments)
        self._segment(free).restart()
        self._segment(free).add(model)
        self.segments.append(free)

    def _seek(self, loss: float) -> None:
        """Drop the candidates for t_s that this loss beats; the first one left after N_s validations is it."""
        losses = [*self.losses, loss]
        first = next(i for i, candidate in enumerate(losses) if candidate == min(losses[i:]))
        self.losses = losses[first:]
        # Counted from the end: the iterates before the first validation are a segment without a loss.
        self.segments = self.segments[-len(self.losses) :]
        if len(self.losses) == self.n_s:
            self.threshold = self.r * math.fsum(self.losses) / self.n_s
            # The losses seen since t_s may have left the valley already.
            losses, segments = self.losses, self.segments
            self.losses, self.segments = [], segments[:1]
            for later, segment in zip(losses[1:], segments[1:], strict=True):
                if not self.ended:
                    self.segments.append(segment)
                    self._follow(later)

    def _follow(self, loss: float) -> None:
        """Join the newest segment with the average, or with those waiting for the loss to come back."""
        assert self.threshold is not None
        self.above = self.above + 1 if loss > self.threshold else 0
        self.ended = self.above == self.n_e
        if self.ended:
            del self.segments[1:]
            return
        # The average, then the waiting iterates, if there are any.
        for _ in range(len(self.segments) - (2 if self.above else 1)):
            newest = self.segments.pop()
            self._segment(self.segments[-1]).merge(self._segment(newest))

    @property
    def averaged(self) -> nn.Module:
        """What :meth:`finish` would give now; made anew if it must be merged from segments."""
        if len(self.segments) == 1:
            return self._segment(self.segments[0]).module
        total = copy.deepcopy(self._segment(self.segments[0]))
        for place in self.segments[1:]:
            total.merge(self._segment(place))
        return total.module

    def get_extra_state(self) -> dict[str, Any]:
        """What ``state_dict`` keeps beside the tensors."""
        return {
            "losses": list(self.losses),
            "segments": list(self.segments),
            **{key: getattr(self, key) for key in ("threshold", "above", "ended", "fresh")},
        }

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what :meth:`get_extra_state` gave."""
        self.losses, self.segments = list(state["losses"]), list(state["segments"])
        self.threshold, self.above = state["threshold"], state["above"]
        self.ended, self.fresh = state["ended"], state["fresh"]
