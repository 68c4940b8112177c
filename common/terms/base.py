"""The interface of every distillation term."""

import dataclasses
from typing import ClassVar, Literal

from torch import Tensor, nn

from common.arguments import Checked
from common.schedule import Weight
from common.teacher import Teacher
from common.view import View

Need = Literal[
    "teacher",
    "features",
    "labels",
    "index",
    "image",
    "stages",
    "look",
    "values",
    "teacher_values",
    "ratio",
    "encoded",
]


@dataclasses.dataclass
class TermOutput:
    """What a term says of one minibatch.

    Attributes:
        loss: Per position ``[B, *]``, or a scalar; unscaled by the term's weight.
        metrics: Detached scalars to log, such as the fraction of positions filtered.
        position_weight: ``[B, *]`` factors for the *whole* loss of each position (task and
            all terms), detached; ``None`` leaves the loss alone.
        acts: Name of a part that may stay idle, such as a filter → detached scalar, 0 where it did nothing.
        shares: Name → detached scalar in [0, 1] whose course over training is recorded, such as what is
            filtered; logged too.
    """

    loss: Tensor
    metrics: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    position_weight: Tensor | None = None
    acts: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    shares: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Term(Checked, nn.Module):
    """A loss beside the task's own: one paper, one subclass.

    What it remembers from step to step belongs in parameters and persistent buffers, which checkpoints keep; buffers
    that are not persistent come back as they were when the method was given to the adapter.

    Args:
        weight: Factor in the total loss, constant or a schedule over training.

    Attributes:
        needs: What the adapter must be able to show (see :class:`common.view.View`).
        teacher_class: How the teacher's networks answer together, where the term has its own way.
        uses_unlabelled: Whether positions without a label teach it anything; if not, it is shown them as invalid.
        analogue: What to use instead where an adapter cannot give what is needed; ends the message that says so.
    """

    needs: ClassVar[frozenset[Need]] = frozenset()
    teacher_class: ClassVar[type[Teacher]] = Teacher
    uses_unlabelled: ClassVar[bool] = False
    analogue: ClassVar[str] = ""

    def __init__(self, weight: Weight = 1.0) -> None:
        super().__init__()
        self.weight = weight

    @property
    def filters_positions(self) -> bool:
        """Whether it gives a ``position_weight``, which the task's loss must be known per position for."""
        return False

    @property
    def remembers_samples(self) -> bool:
        """Whether it keeps something of every sample, by its index, from one pass over the data to the next."""
        return False

    def bind(self, network: nn.Module, view: View) -> None:
        """Make what depends on the student: copies of it, auxiliary heads. Called once, before training.

        Args:
            network: The student, from inputs to logits ``[B, C, *]``.
            view: One minibatch as it will look in training, for shapes; the teacher has not been asked about it.
        """

    def before_step(self, network: nn.Module, progress: float) -> None:
        """Called before every pass over a minibatch, with the part of training that is done."""

    def after_step(self, network: nn.Module, progress: float) -> None:
        """Called after every step of the optimiser, with the part of training that is done."""

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """Called after every pass over the data (segmentation) or every rollout's updates (PPO)."""

    def forward(self, view: View) -> TermOutput:
        """The term's value on one minibatch."""
        raise TypeError(f"{type(self).__name__} does not define forward")
