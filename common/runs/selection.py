"""Weights that a validation along the way chose: of the best score on the sources or, as an oracle, on the target.

*Training-domain validation* and *test-domain validation* of Gulrajani & Lopez-Paz (arXiv 2007.01434), there between
trainings, here between the moments of one. What the oracle chooses has seen the target's labels: it bounds what a
better rule could gain, and is no result.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.errors import InputError
from common.runs.checkpoint import State
from common.runs.records import ORACLE, VALIDATED

Rule = Literal["validated", "oracle"]


class Selection:
    """Keeps a copy of the weights of the best validation so far, for each rule; reads them only.

    Args:
        rules: What is chosen by: ``validated``, the sources' validation, ``oracle``, the target.

    Attributes:
        rules: In that order, each once.
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules: Sequence[Rule] = [rule for rule in (VALIDATED, ORACLE) if rule in rules]
        self._best: dict[str, tuple[float, dict[str, Tensor]]] = {}

    def check(self, without_validation: str | None) -> None:
        """Raise where there is nothing to choose between.

        Args:
            without_validation: What keeps the run from being validated along the way, in words, or ``None``.

        Raises:
            InputError: saying so.
        """
        if self.rules and without_validation is not None:
            raise InputError(
                f"selection=[{','.join(self.rules)}] needs validations to choose by, which {without_validation} does "
                "not have; leave it out"
            )

    @torch.no_grad()
    def offer(self, rule: Rule, network: nn.Module, score: float) -> None:
        """Keep the network's weights if no earlier ones scored as high; a score of NaN is none.

        Args:
            rule: Whose score it is; nothing is kept unless it is among ``rules``.
            network: In training, or a view of it; always the same one.
            score: Higher is better.
        """
        if rule not in self.rules or not score > self._best.get(rule, (float("-inf"), {}))[0]:
            return
        # New tensors each time, so that a state that was taken before stays what it was.
        weights = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        self._best[rule] = (score, weights)

    def weights(self) -> Mapping[str, Mapping[str, Tensor]]:
        """What was chosen, in the order of the rules; a rule without any score is not there."""
        return {rule: self._best[rule][1] for rule in self.rules if rule in self._best}

    def state(self) -> State:
        """To go on from."""
        return {rule: [score, weights] for rule, (score, weights) in self._best.items()}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave."""
        self._best = {rule: (score, weights) for rule, (score, weights) in state.items()}
