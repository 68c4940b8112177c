"""What features know: of labels, and of the domain they come from. A linear probe answers both (ours).

Of a probe q(y | f) that was fitted on one half of the samples, the other half gives

- its accuracy: of domains, how far they can be told apart by features that are to be the same on all of them
  (as in Ben-David et al. 2010, where the best linear classifier between two domains bounds what is lost);
- a lower bound of the mutual information, I(F; Y) ≥ H(Y) − E[−log q(y | f)] (Barber, Agakov 2003): in nats, and only
  what is linearly there.

KDDG's paper explains itself by two measures that are not available to us; this and :mod:`common.runs.travel` stand in
their place.
"""

import dataclasses

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

PENALTY = 1e-3
"""Weight decay of a probe, of standardised features."""
_ITERATIONS = 100


@dataclasses.dataclass(frozen=True)
class Probed:
    """What a linear probe found on samples that it was not fitted on.

    Attributes:
        accuracy: Mean over classes, so that a frequent one does not decide.
        information: Lower bound of the mutual information, nats; at least 0.
        entropy: Of the labels, nats: the most that can be known.
        classes: How many there are; guessing has an accuracy of one over them.
    """

    accuracy: float
    information: float
    entropy: float
    classes: int


def probe(features: Tensor, labels: Tensor, groups: Tensor | None = None, seed: int = 0) -> Probed | None:
    """Fit a probe on one half and ask it about the other.

    Args:
        features: ``[N, D]``.
        labels: ``int64 [N]``, any numbers.
        groups: ``int64 [N]``; samples of one group, such as positions of one image, stay together. ``None`` for groups
            of one.
        seed: Of the halves.

    Returns:
        ``None`` with fewer than two classes, or where a half lacks one.
    """
    names, labels = torch.unique(labels, return_inverse=True)  # type: ignore[no-untyped-call]
    groups = torch.arange(len(labels), device=labels.device) if groups is None else groups
    train = _half(labels, groups, seed)
    if len(names) < 2 or any(int(labels[half].bincount(minlength=len(names)).min()) == 0 for half in (train, ~train)):
        return None
    given = features.double()
    mean, deviation = given[train].mean(dim=0), given[train].std(dim=0).clamp(min=1e-8)
    given = (given - mean) / deviation
    with torch.enable_grad():
        line = _fit(given[train], labels[train], len(names))
    with torch.no_grad():
        logits, truth = line(given[~train]), labels[~train]
        right = (logits.argmax(dim=1) == truth).double()
        share = torch.stack([right[truth == name].mean() for name in range(len(names))])
        frequency = truth.bincount(minlength=len(names)).double() / len(truth)
        entropy = float(-(frequency * frequency.log()).sum())
        known = entropy - float(F.cross_entropy(logits, truth))
    return Probed(float(share.mean()), max(0.0, known), entropy, len(names))


def _half(labels: Tensor, groups: Tensor, seed: int) -> Tensor:
    """``bool [N]``: half of the groups, of each class nearly half."""
    rng = np.random.default_rng(seed)
    there, whose = labels.cpu().numpy(), groups.cpu().numpy()
    chosen: dict[int, bool] = {}
    for name in np.unique(there):
        own = [group for group in np.unique(whose[there == name]).tolist() if group not in chosen]
        for number, group in enumerate(rng.permutation(own).tolist()):
            chosen[group] = number % 2 == 0
    return torch.tensor([chosen[group] for group in whose.tolist()], device=labels.device)


def _fit(features: Tensor, labels: Tensor, classes: int) -> nn.Linear:
    line = nn.Linear(features.shape[1], classes).to(features.device, torch.float64)
    nn.init.zeros_(line.weight)
    nn.init.zeros_(line.bias)
    optimizer = torch.optim.LBFGS(line.parameters(), max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(line(features), labels) + PENALTY * line.weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return line
