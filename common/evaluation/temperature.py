"""One temperature for all logits, fitted on validation data of the domains that are trained on.

Guo, Pleiss, Sun, Weinberger: On Calibration of Modern Neural Networks, ICML 2017 (arXiv 1706.04599), section 4.2: the
predicted class stays, so that accuracy does not change.
"""

import torch
from scipy import optimize
from torch import Tensor

from common.losses import full_precision

LOWEST, HIGHEST = 0.05, 20.0


@torch.no_grad()
def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T in [:data:`LOWEST`, :data:`HIGHEST`] with the lowest negative log-likelihood of logits / T.

    It is convex in 1 / T, so that there is one minimum.

    Args:
        logits: ``[N, C]``.
        labels: ``int64 [N]``.

    Raises:
        ValueError: no position.
    """
    if not len(logits):
        raise ValueError("there is no position to fit a temperature on")
    rows = full_precision(logits).double()
    own = rows.gather(1, labels[:, None]).squeeze(1)

    def likelihood(inverse: float) -> float:
        return float(((inverse * rows).logsumexp(dim=1) - inverse * own).mean())

    found = optimize.minimize_scalar(
        likelihood, bounds=(1 / HIGHEST, 1 / LOWEST), method="bounded", options={"xatol": 1e-4}
    )
    return float(1 / found.x)


class LogitSample:
    """A few positions of each image, the same ones whatever the batch: memory does not depend on the number of pixels.

    Args:
        each: Positions of an image; all of them where it has fewer.
    """

    def __init__(self, each: int = 2048) -> None:
        self.each = each
        self._logits: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor, valid: Tensor, number: int) -> None:
        """Take positions of one image.

        Args:
            logits: ``[C, *]``.
            labels: ``int64 [*]``.
            valid: ``bool [*]``.
            number: Of the image; decides which positions.
        """
        kept = valid.flatten().nonzero().squeeze(1)
        if len(kept) > self.each:
            generator = torch.Generator().manual_seed(number)
            drawn = torch.randint(len(kept), (self.each,), generator=generator)  # with repetition: no permutation
            kept = kept[drawn.to(kept.device)]
        self._logits.append(logits.flatten(1)[:, kept].T.cpu())
        self._labels.append(labels.flatten()[kept].cpu())

    def temperature(self) -> float | None:
        """See :func:`fit_temperature`; ``None`` without a position."""
        if not any(len(labels) for labels in self._labels):
            return None
        return fit_temperature(torch.cat(self._logits), torch.cat(self._labels))
