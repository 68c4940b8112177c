"""What a method's parts have done over a training: which never acted, and how much of the batch a filter took."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

Place = tuple[str, str]
"""A term, and a part of it; no part is the whole term."""


class Tally:
    """Counts on the device, and reads only when asked, since reading waits for it."""

    def __init__(self) -> None:
        self._most: dict[Place, Tensor] = {}
        self._shares: dict[Place, tuple[Tensor, int]] = {}

    def count(self, term: str, acts: Mapping[str, Tensor], shares: Mapping[str, Tensor]) -> None:
        """Take in one step.

        Args:
            term: The term's name.
            acts: Part → detached scalar, 0 where it did nothing.
            shares: Name → detached scalar in [0, 1].
        """
        for part, much in acts.items():
            before = self._most.get((term, part))
            self._most[term, part] = much if before is None else before.maximum(much)
        for name, share in shares.items():
            total, steps = self._shares.get((term, name), (torch.zeros_like(share), 0))
            self._shares[term, name] = (total + share, steps + 1)

    def idle(self) -> list[str]:
        """What has not acted in any step so far, in words: without it the run would be the same one."""
        nothing = [term for (term, part), most in self._most.items() if not part and most == 0]
        parts = [place for place, most in self._most.items() if place[1] and most == 0 and place[0] not in nothing]
        return [
            *(f"{term} added nothing to the loss in any step" for term in nothing),
            *(f"the {part} of {term} touched nothing in any step" for term, part in parts),
        ]

    def take_shares(self) -> dict[str, float]:
        """``<term>/<name>`` → the mean over the steps since it was last taken; nothing where there was none."""
        found = {"/".join(place): float(total) / steps for place, (total, steps) in self._shares.items()}
        self._shares = {}
        return found

    def state(self) -> dict[str, Any]:
        """To go on from."""
        return {
            "most": [[*place, float(most)] for place, most in self._most.items()],
            "shares": [[*place, float(total), steps] for place, (total, steps) in self._shares.items()],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state` gave; nothing of a training that began before there was one."""
        self._most = {(term, part): torch.tensor(most) for term, part, most in state.get("most", [])}
        self._shares = {
            (term, name): (torch.tensor(total), steps) for term, name, total, steps in state.get("shares", [])
        }
