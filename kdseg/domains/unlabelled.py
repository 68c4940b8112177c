"""Images without masks: distilled on, never scored."""

import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kdseg.domains.digests import Digest
from kdseg.domains.sample import DomainData

_NO_MASK = "0" * 16


class WithoutLabels(DomainData):
    """A domain whose masks are not shown: all zeros instead."""

    labelled = False

    def __init__(self, whole: DomainData) -> None:
        super().__init__(whole.name, whole.items)
        self._whole, self.bands = whole, whole.bands

    def read(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """See :meth:`DomainData.read`."""
        image, mask = self._whole.read(position)
        return image, np.zeros_like(mask)

    def digest(self, position: int) -> Digest:
        """See :meth:`DomainData.digest`."""
        return Digest(self._whole.digest(position).image, _NO_MASK)


def hide_labels(domains: Sequence[DomainData], fraction: float, seed: int) -> tuple[list[DomainData], list[DomainData]]:
    """Keep the masks of some images and hide the others', for studies of how many are needed.

    Groups are never cut. A domain's choice depends on ``seed``, its name and its own groups only, and with a larger
    fraction the images of a smaller one keep their masks.

    Args:
        domains: The training images.
        fraction: Wanted share of each domain's images that keep their masks, in (0, 1]; at least one group does.
        seed: Chooses the groups.

    Returns:
        The domains of those that keep their masks, and of the others, as far as there are any.
    """
    labelled: list[DomainData] = []
    hidden: list[DomainData] = []
    for domain in domains:
        sizes = Counter(item.group for item in domain.items)
        order = np.random.default_rng([seed, zlib.crc32(domain.name.encode())]).permutation(sorted(sizes))
        wanted, count = round(fraction * len(domain)), 0
        kept: set[str] = set()
        for group in (str(name) for name in order):
            if kept and count + sizes[group] > wanted:
                break
            kept.add(group)
            count += sizes[group]
        own = [position for position, item in enumerate(domain.items) if item.group in kept]
        rest = [position for position, item in enumerate(domain.items) if item.group not in kept]
        labelled.append(domain.subset(own) if rest else domain)
        if rest:
            hidden.append(WithoutLabels(domain.subset(rest)))
    return labelled, hidden


def apart(domains: Sequence[DomainData], others: Sequence[DomainData]) -> list[DomainData]:
    """The domains without the images of a group that occurs in others: what is judged must not be trained on at all."""
    judged = {item.group for domain in others for item in domain.items}
    found = []
    for domain in domains:
        positions = [position for position, item in enumerate(domain.items) if item.group not in judged]
        if positions:
            found.append(domain.subset(positions))
    return found
