"""Whether the labels of masks make sense: how many classes there are, and what would be learnt from them."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.errors import InputError
from kdseg.domains.pairs import CheckedPair
from kdseg.domains.sample import IGNORE

Counts = NDArray[np.int64]
"""``[256]``, how many pixels have each value."""

_MOSTLY = 0.5
_SHOWN = 8


def count_classes(num_classes: int | None, class_names: Sequence[str] | None, counts: Counts) -> int:
    """How many classes there are.

    Args:
        num_classes: As configured.
        class_names: As configured.
        counts: What the sources' masks hold, which decides where neither of both is given.

    Raises:
        InputError: the options contradict each other, there are too few or too many classes, or the values are no
            class indices.
    """
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise InputError(
            f"num_classes={num_classes} but class_names has {len(class_names)}; give as many, or one of both"
        )
    if class_names is not None:
        num_classes = len(class_names)
    if num_classes is not None:
        if not 2 <= num_classes <= IGNORE:
            raise InputError(f"num_classes={num_classes} cannot be used; give 2 to {IGNORE}")
        return num_classes
    found = occurring(counts)
    classes = [value for value in found if value != IGNORE]
    if classes and 2 * len(classes) <= classes[-1] + 1 and classes[-1] > 1:
        raise InputError(
            f"the sources' masks hold the values {listed(found)}, which are no class indices 0, 1, …;"
            f" {as_mapping(found)}, or num_classes={classes[-1] + 1} if they are"
        )
    if len(classes) < 2:
        raise InputError(_nothing_to_tell_apart(found, None))
    return classes[-1] + 1


def check_labels(entries: Sequence[CheckedPair], num_classes: int) -> None:
    """Raise unless every mask holds classes below ``num_classes`` only.

    Raises:
        InputError: naming the first mask that does not, and what could be meant.
    """
    for entry in entries:
        found = occurring(entry.labels)
        highest = max((value for value in found if value != IGNORE), default=-1)
        if highest >= num_classes:
            every = occurring(added([one.labels for one in entries]))
            raise InputError(
                f"{entry.pair.mask} holds class {highest}, but there are {num_classes} classes"
                f" (0 to {num_classes - 1}, {IGNORE} = ignored); correct the mask, or set num_classes={highest + 1}; if"
                f" the values {listed(every)} are no class indices, {as_mapping(every)}"
            )


def check_sense(sources: Mapping[str, Counts], target: tuple[str, Counts], names: Sequence[str]) -> list[str]:
    """Raise where nothing could be learnt from the sources' masks; or say what of them makes little sense.

    Args:
        sources: Counts of every source domain.
        target: Name and counts of the target.
        names: Of the classes.

    Returns:
        A line for each finding.

    Raises:
        InputError: all labelled pixels of all sources are of one class.
    """
    whole = added(list(sources.values()))
    found = occurring(whole)
    if len([value for value in found if value != IGNORE]) < 2:
        raise InputError(_nothing_to_tell_apart(found, names))
    lines = []
    lost = [name for index, name in enumerate(names) if not whole[index]]
    if lost:
        lines.append(f"no source has a pixel of {', '.join(lost)}: it cannot be learnt")
    for domain, counts in [*sources.items(), target]:
        own = [name for index, name in enumerate(names) if counts[index]]
        absent = [name for name in names if name not in own and name not in lost]
        if len(own) == 1:
            lines.append(f"{domain}: every labelled pixel is {own[0]}")
        elif not own:
            lines.append(f"{domain}: every pixel is ignored ({IGNORE})")
        elif absent:
            lines.append(f"{domain}: no pixel is {', '.join(absent)}")
        if own and (share := counts[IGNORE] / counts.sum()) >= _MOSTLY:
            lines.append(f"{domain}: {100 * share:.0f} % of the pixels are ignored ({IGNORE})")
    return lines


def _nothing_to_tell_apart(found: Sequence[int], names: Sequence[str] | None) -> str:
    classes = [value for value in found if value != IGNORE]
    if IGNORE in found:
        meant = f"; if {IGNORE} is a class, {as_mapping(found, names)}"
        if not classes:
            return f"every pixel of the sources' masks is {IGNORE}, which is ignored{meant}"
        return (
            f"the sources' masks hold class {classes[0]} and {IGNORE}, which is ignored, so there is nothing to tell"
            f" apart{meant}"
        )
    return f"the sources' masks hold class {listed(classes)} alone, so there is nothing to tell apart"


def added(counts: Sequence[Counts]) -> Counts:
    """The counts of several masks, or of none."""
    whole: Counts = np.sum([np.zeros(IGNORE + 1, np.int64), *counts], axis=0)
    return whole


def occurring(counts: Counts) -> list[int]:
    """The values that occur, ascending."""
    return [int(value) for value in np.flatnonzero(counts)]


def listed(values: Sequence[int]) -> str:
    """Some of them, for a message."""
    more = f", … ({len(values)} values)" if len(values) > _SHOWN else ""
    return ", ".join(str(value) for value in values[:_SHOWN]) + more


def as_mapping(values: Sequence[int], names: Sequence[str] | None = None) -> str:
    """The option that makes classes of such values, to be copied."""
    called = names if names is not None and len(names) == len(values) else [f"class_{n}" for n in range(len(values))]
    pairs = [f"{value}:{name}" for value, name in zip(values[:_SHOWN], called, strict=False)]
    more = ["…"] if len(values) > _SHOWN else []
    return f"say what they stand for: 'data.mask_values={{{','.join([*pairs, *more])}}}'"
