"""The exponential moving average of the weights, as a control for the others."""

from common.arguments import Share
from common.averaging.base import Averager, Buffers


class EMA(Averager):
    """``θ̄_n = Σ_k dⁿ⁻ᵏ θ_k / Σ_k dⁿ⁻ᵏ`` over the iterates k = 0..n since the start.

    The recursion is ``θ̄_n = θ̄_{n−1} + w_n (θ_n − θ̄_{n−1})`` with ``w_n = (1 − d) / (1 − dⁿ⁺¹)``: the first iterate is
    copied, and the bias correction (Kingma & Ba, arXiv 1412.6980) keeps it from weighing more than the
    later ones, as it does where w is 1 − d from the second on. Keeps one copy of the weights.

    Args:
        decay: d in [0, 1); 0 is the latest iterate.
        start: See :class:`Averager`.
        buffers: See :class:`Averager`.
        name: See :class:`Averager`.

    Raises:
        InputError: a value outside its range.
    """

    def __init__(
        self,
        decay: Share = 0.999,
        start: Share = 0.0,
        buffers: Buffers = "reestimate",
        name: str = "ema",
    ) -> None:
        super().__init__(start, buffers, name)
        self.decay = decay

    def _weight(self, count: int) -> float:
        return (1.0 - self.decay) / (1.0 - self.decay ** (count + 1))
