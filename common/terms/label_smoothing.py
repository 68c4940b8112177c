"""Label smoothing.

Szegedy, Vanhoucke, Ioffe, Shlens, Wojna: Rethinking the Inception Architecture for Computer Vision, 2015
(arXiv 1512.00567), section 7.
"""

from typing import ClassVar

from torch import Tensor

from common.arguments import Inside
from common.losses import full_precision, mean_over_valid
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def smoothing_penalty(logits: Tensor, labels: Tensor, valid: Tensor | None = None) -> Tensor:
    """``mean_c(−log p_c) − (−log p_y) = z_y − mean_c z_c``, per position.

    Cross-entropy with the uniform distribution less cross-entropy with the label; the normaliser
    of the softmax is in both and cancels.

    Args:
        logits: ``[B, C, *]``.
        labels: ``int64 [B, *]``, any class where not valid.
        valid: ``bool [B, *]`` or ``None``.

    Returns:
        ``[B, *]``, zero where not valid; negative where the label is less likely than the classes
        are in (geometric) mean.
    """
    logits = full_precision(logits)
    if valid is not None:
        logits = logits.masked_fill(~valid.unsqueeze(1), 0.0)
    return logits.gather(1, labels.unsqueeze(1)).squeeze(1) - logits.mean(dim=1)


class LabelSmoothing(Term):
    """``ε · [mean_c(−log p_c) − (−log p_y)]``: what smoothing the labels adds to cross-entropy.

    The smoothed label is ``(1 − ε) · onehot(y) + ε / C``, uniform over *all* classes, the label's
    among them. Its cross-entropy is ``(1 − ε)(−log p_y) + ε · mean_c(−log p_c)``; taking away the
    task's own ``−log p_y`` leaves this term, so that with ``task_weight`` 1 and ``weight`` 1 the
    total *equals* cross-entropy with smoothed labels (``label_smoothing=ε`` in torch). The term
    alone may be negative; the total is not.

    No deviation from the paper; written as an addition so that the task's loss stays as it is.

    Args:
        weight: Factor in the total loss; other than ``task_weight`` it acts as another ε.
        epsilon: ε in (0, 1); the paper's 0.1.

    Raises:
        InputError: ε outside (0, 1).
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    analogue: ClassVar[str] = "without labels the entropy bonus, ppo.ent_coef, is its analogue"

    def __init__(self, weight: Weight = 1.0, epsilon: Inside = 0.1) -> None:
        super().__init__(weight)
        self.epsilon = epsilon

    def forward(self, view: View) -> TermOutput:
        """Per-position loss ``[B, *]``; logs the mean probability of the label, ``label_probability``."""
        labels = view.labels()
        probability = full_precision(view.logits.detach()).softmax(dim=1).gather(1, labels.unsqueeze(1)).squeeze(1)
        penalty = smoothing_penalty(view.logits, labels, view.valid)
        return TermOutput(self.epsilon * penalty, {"label_probability": mean_over_valid(probability, view.valid)})
