"""Self-distillation through dropout (SD-Dropout).

Lee et al.: Self-Knowledge Distillation via Dropout, 2022 (arXiv 2208.05642).
"""

from typing import ClassVar, Literal

from torch import Tensor
from torch.nn import functional as F

from common.arguments import Inside, Positive
from common.losses import kl_divergence, mean_over_valid, symmetric_kl
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


class SDDropout(Term):
    """``T² · [KL(p₂ ‖ p₁) + KL(p₁ ‖ p₂)]`` between two dropped-out looks at the same features.

    Both looks go through the network's own head: ``z_i = head(dropout(features, p))`` with
    independent masks. The task's loss uses the clean look only, which is the difference from
    R-Drop, and the network gains no layer: nothing changes at inference. The extra cost is two
    calls of the head. Gradients reach both looks unless ``stop_gradient``.

    Deviations from the paper: ``mask="channel"`` (ours) drops whole channels, one mask a sample,
    which on maps is the faithful form, since such masks commute with the pooling before a
    classifier's head; on vectors both masks are the same. On maps the loss is computed on the
    head's own grid, before any upsampling, and averaged over valid positions.

    Args:
        weight: λ. The paper's 1 alone and 0.1 on top of another method are for image
            classification; dense tasks and policies need less, or a ramp.
        rate: Dropout probability in (0, 1); the paper's p = 0.5.
        temperature: T, positive; the paper's 3.
        direction: ``symmetric`` (the paper's), ``forward`` KL(p₁ ‖ p₂), or ``reverse`` KL(p₂ ‖ p₁).
            The two looks are alike in distribution, so either one-way form is on average half the
            symmetric one.
            With ``stop_gradient`` the first argument of the divergence is the fixed one.
        stop_gradient: Stop the gradient of each divergence's first argument (off in the paper).
        mask: ``channel`` or ``element``.

    Raises:
        InputError: a value outside its range.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"features"})
    uses_unlabelled: ClassVar[bool] = True

    def __init__(
        self,
        weight: Weight = 1.0,
        rate: Inside = 0.5,
        temperature: Positive = 3.0,
        direction: Literal["symmetric", "forward", "reverse"] = "symmetric",
        stop_gradient: bool = False,
        mask: Literal["channel", "element"] = "channel",
    ) -> None:
        super().__init__(weight)
        self.rate = rate
        self.temperature = temperature
        self.direction = direction
        self.stop_gradient = stop_gradient
        self.mask = mask

    def forward(self, view: View) -> TermOutput:
        """Per-position loss on the head's grid; logs the disagreement of the two looks' classes."""
        first = view.head(self._drop(view.features))
        second = view.head(self._drop(view.features))
        valid = view.valid_on(first.shape[2:])
        loss = self.temperature**2 * self._divergence(first, second, valid)
        if not view.log:
            return TermOutput(loss)
        disagreement = (first.argmax(dim=1) != second.argmax(dim=1)).float()
        return TermOutput(loss, {"disagreement": mean_over_valid(disagreement, valid)})

    def _drop(self, features: Tensor) -> Tensor:
        if self.mask == "element" or features.dim() == 2:
            return F.dropout(features, self.rate, training=True)
        # One mask a sample and channel, whatever the number of position dimensions.
        ones = features.new_ones(features.shape[:2] + (1,) * (features.dim() - 2))
        return features * F.dropout(ones, self.rate, training=True)

    def _divergence(self, first: Tensor, second: Tensor, valid: Tensor | None) -> Tensor:
        if self.direction == "symmetric" and not self.stop_gradient:
            return symmetric_kl(first, second, self.temperature, valid)

        def one_way(fixed: Tensor, moving: Tensor) -> Tensor:
            fixed = fixed.detach() if self.stop_gradient else fixed
            return kl_divergence(moving, fixed, self.temperature, valid)

        if self.direction == "forward":
            return one_way(first, second)
        if self.direction == "reverse":
            return one_way(second, first)
        return one_way(first, second) + one_way(second, first)
