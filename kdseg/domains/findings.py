"""What was found in a folder of domains and what was passed over: ``data.json``, and in a few lines."""

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence

from common.runs.disk import write_text
from common.runs.folder import Run
from kdseg.domains.labels import added
from kdseg.domains.pairs import CheckedPair
from kdseg.domains.sample import IGNORE


@dataclasses.dataclass(frozen=True)
class Findings:
    """What the folder of one domain holds, whatever it is used for.

    Attributes:
        images: How many.
        smallest: Width and height of the smallest image in pixels.
        largest: Of the largest.
        image_kinds: What the images were, and how many of each.
        mask_kinds: What the masks were.
        classes: Name of each class → its share of the pixels.
        ignored: Share of the pixels that belong to no class.
        passed_over: What is no image and no mask, a line for each reason.
        unlabelled: How many more images have no mask.
    """

    images: int
    smallest: tuple[int, int]
    largest: tuple[int, int]
    image_kinds: Mapping[str, int]
    mask_kinds: Mapping[str, int]
    classes: Mapping[str, float]
    ignored: float
    passed_over: Sequence[str]
    unlabelled: int = 0

    def line(self) -> str:
        """For people."""
        sizes = [f"{width}x{height}" for width, height in dict.fromkeys((self.smallest, self.largest))]
        shares = [f"{name} {100 * share:.3g} %" for name, share in self.classes.items()]
        parts = [
            f"{self.images} images of {' to '.join(sizes)} pixels",
            *_counted(self.image_kinds, self.images),
            *(f"masks {kind}" for kind in _counted(self.mask_kinds, self.images)),
            ", ".join([*shares, *([f"ignored {100 * self.ignored:.3g} %"] if self.ignored else [])]),
            *([f"{self.unlabelled} more without masks"] if self.unlabelled else []),
            *(f"passed over in {line}" for line in self.passed_over),
        ]
        return "; ".join(parts)


def _counted(kinds: Mapping[str, int], count: int) -> list[str]:
    return [kind if number == count else f"{number} {kind}" for kind, number in kinds.items()]


def findings(
    entries: Sequence[CheckedPair], names: Sequence[str], passed_over: Sequence[str], unlabelled: int = 0
) -> Findings:
    """Of one domain.

    Args:
        entries: Its images.
        names: Of the classes.
        passed_over: A line for each reason.
        unlabelled: How many more have no mask.
    """
    labels = added([entry.labels for entry in entries])
    shares = labels / labels.sum()
    sizes = sorted(((entry.width, entry.height) for entry in entries), key=lambda size: size[0] * size[1])
    return Findings(
        len(entries),
        sizes[0],
        sizes[-1],
        dict(Counter(entry.image_kind for entry in entries).most_common()),
        dict(Counter(entry.mask_kind for entry in entries).most_common()),
        {name: round(float(shares[index]), 6) for index, name in enumerate(names)},
        round(float(shares[IGNORE]), 6),
        list(passed_over),
        unlabelled,
    )


def write_findings(run: Run, found: Mapping[str, Findings], notes: Sequence[str]) -> None:
    """Write ``data.json``: the findings by domain, and what of the data makes little sense."""
    domains = {name: dataclasses.asdict(one) for name, one in found.items()}
    write_text(run.findings_path, json.dumps({"domains": domains, "notes": list(notes)}, indent=1) + "\n")
