"""Weight-averaged knowledge distillation (WAKD), arXiv 2309.11446."""

from common.arguments import Share
from common.averaging.base import Averager, Buffers


class WAKD(Averager):
    """``θ̄ = 1/(N − t₀ + 1) · Σ_{t = t₀..N} θ_t``: every iterate from 10 % of training on, no end rule, no validation.

    The paper averages a student distilled from a teacher (T = 5, no task loss, BatchNorm held in eval mode, 50,000
    steps); here it goes with any method. Keeps one copy of the weights.

    Ours: t₀ is a part of training, and BatchNorm may be live (see ``buffers``).

    Args:
        start: t₀ / N, in [0, 1); the paper's 0.1.
        buffers: See :class:`Averager`.
        name: See :class:`Averager`.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(self, start: Share = 0.1, buffers: Buffers = "reestimate", name: str = "wakd") -> None:
        super().__init__(start, buffers, name)
