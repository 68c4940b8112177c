"""Deep probabilistic supervision (DPS): targets inferred from the network's own predictions.

Adelöw, Gamba, Maki: Deep Probabilistic Supervision for Image Classification (first version: Bayesian
Self-Distillation), 2025 (arXiv 2512.24162).

What is known and what is ours. The paper's body and code are not available to us; its abstract is, and two
published summaries agree on the recursion: each sample's class distribution has a Dirichlet prior with
concentration c at the label and ε elsewhere, and every epoch's prediction is discounted evidence,
``α_t = γ α_{t−1} + ŷ_t``. The target is taken to be the posterior mean, from the predictions of the
epochs before. c, ε and γ are not known; the defaults are ours. The contrastive loss of the paper's
label-noise results is left out.
"""

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.arguments import CountFromZero, Positive, UpToOne
from common.errors import InputError
from common.frozen import FrozenCopy
from common.losses import full_precision, mean_over_valid, soft_cross_entropy
from common.schedule import Weight
from common.terms.base import Need, Term, TermOutput
from common.view import View


def prior(labels: Tensor, classes: int, concentration: float, epsilon: float) -> Tensor:
    """``α_0 [B, C, *]``: ``concentration`` at the label, ``epsilon`` at every other class."""
    one_hot = F.one_hot(labels, classes).movedim(-1, 1).float()
    return epsilon + (concentration - epsilon) * one_hot


def evidence(epochs: int, discount: float) -> float:
    """``Σ_{s<t} γ^s``: how much the predictions of t epochs weigh together."""
    return float(epochs) if discount == 1.0 else (1.0 - discount**epochs) / (1.0 - discount)


class DPS(Term):
    """``CE(α / Σα, p)`` with ``α ← γ α + p`` once an epoch and ``α_0`` from the label.

    It takes the task's place: use it with ``task_weight: 0``, as ``method=dps`` does, and labels matter at
    the start only, through ``α_0``.

    Two memories:

    - ``samples``, the paper's: one α a sample and position, kept by ``index``. It costs
      ``samples · C · positions`` numbers and asks that a sample's positions stay where they are, which
      random crops and flips do not. A sample seen twice in an epoch counts twice.
    - ``network``, ours: past predictions come from an average of the networks at the ends of the epochs
      before, weighed by the discount just as the predictions would be: the average moves by
      ``1/(1 + γ + … + γ^(t−1))`` after epoch t, and
      ``α_t = γ^t α_0 + (1 + γ + … + γ^(t−1)) · p_average``. It takes any crop.

    Args:
        weight: Factor in the total loss.
        concentration: c of the prior, larger than ``epsilon``.
        epsilon: ε of the prior, positive.
        discount: γ in (0, 1].
        memory: ``network`` or ``samples``.
        samples: How many samples there are, for ``memory="samples"``.

    Raises:
        InputError: a value outside its range; in :meth:`bind`, no index for ``memory="samples"``.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})
    epochs: Tensor
    alpha: Tensor
    average: FrozenCopy

    def __init__(
        self,
        weight: Weight = 1.0,
        concentration: Positive = 10.0,
        epsilon: Positive = 0.01,
        discount: UpToOne = 0.9,
        memory: Literal["network", "samples"] = "network",
        samples: CountFromZero = 0,
    ) -> None:
        super().__init__(weight)
        if epsilon >= concentration:
            raise InputError(f"epsilon={epsilon} must be less than concentration={concentration}")
        self.memory = memory
        if memory == "samples" and samples < 1:
            raise InputError(f"samples={samples} must be the number of training samples for memory=samples")
        self.concentration, self.epsilon, self.discount, self.samples = concentration, epsilon, discount, samples
        self.register_buffer("epochs", torch.zeros((), dtype=torch.int64))

    @property
    def remembers_samples(self) -> bool:
        """See :class:`common.terms.base.Term`."""
        return self.memory == "samples"

    def bind(self, network: nn.Module, view: View) -> None:
        """Make the memory."""
        if self.memory == "network":
            self.average = FrozenCopy(network)
            return
        if view.index is None:
            raise InputError("dps with memory=samples needs index; use memory=network")
        # Zero means not seen yet: a prior is positive everywhere.
        shape = (self.samples, *view.logits.shape[1:])
        self.register_buffer("alpha", torch.zeros(shape, device=view.logits.device))

    def after_epoch(self, network: nn.Module, progress: float) -> None:
        """Add the network to the average."""
        self.epochs += 1
        if self.memory == "network":
            self.average.follow(network, 1.0 - 1.0 / evidence(int(self.epochs), self.discount))

    def forward(self, view: View) -> TermOutput:
        """Per-position loss; logs the target's probability of the label and its entropy."""
        labels = view.labels()
        with torch.no_grad():
            start = prior(labels, view.logits.shape[1], self.concentration, self.epsilon)
            alpha = self._from_network(view, start) if self.memory == "network" else self._from_samples(view, start)
            target = alpha / alpha.sum(dim=1, keepdim=True)
        loss = soft_cross_entropy(view.logits, target, view.valid)
        if not view.log:
            return TermOutput(loss)
        entropy = -(target * target.clamp(min=1e-30).log()).sum(dim=1)
        metrics = {
            "label_probability": mean_over_valid(target.gather(1, labels.unsqueeze(1)).squeeze(1), view.valid),
            "target_entropy": mean_over_valid(entropy, view.valid),
        }
        return TermOutput(loss, metrics)

    def _from_network(self, view: View, start: Tensor) -> Tensor:
        epochs = int(self.epochs)
        if epochs == 0:
            return start
        past = full_precision(self.average(view.inputs)).softmax(dim=1)
        return self.discount**epochs * start + evidence(epochs, self.discount) * past

    def _from_samples(self, view: View, start: Tensor) -> Tensor:
        """α before this prediction; in training the prediction is added to it for the next time."""
        assert view.index is not None
        alpha = self.alpha[view.index]
        alpha = torch.where(alpha.sum(dim=1, keepdim=True) > 0, alpha, start)
        if self.training:
            updated = self.discount * alpha + full_precision(view.logits.detach()).softmax(dim=1)
            self.alpha[view.index] = updated.to(self.alpha.dtype)
        return alpha
