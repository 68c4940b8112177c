"""How many classes the masks of a folder tell apart."""

from collections.abc import Sequence

from common.errors import InputError
from kdseg.domains.pairs import CheckedPair
from kdseg.domains.sample import IGNORE


def count_classes(num_classes: int | None, class_names: Sequence[str] | None, highest_label: int) -> int:
    """How many classes there are.

    Args:
        num_classes: As configured.
        class_names: As configured.
        highest_label: What the masks hold, which counts where neither of both is given.

    Raises:
        InputError: the options contradict each other, or there are too few or too many classes.
    """
    if class_names is not None and num_classes is not None and len(class_names) != num_classes:
        raise InputError(
            f"num_classes={num_classes} but class_names has {len(class_names)}; give as many, or one of both"
        )
    if class_names is not None:
        num_classes = len(class_names)
    if num_classes is None:
        num_classes = highest_label + 1
        if num_classes < 2:
            raise InputError(
                f"the sources' masks hold no class above {highest_label}, so there is nothing to tell apart; masks hold"
                f" class indices 0, 1, ... and {IGNORE} is ignored: write 1, not {IGNORE}, for the second class"
            )
    if not 2 <= num_classes <= IGNORE:
        raise InputError(f"num_classes={num_classes} cannot be used; give 2 to {IGNORE}")
    return num_classes


def check_labels(entries: Sequence[CheckedPair], num_classes: int) -> None:
    """Raise unless every mask holds classes below ``num_classes`` only.

    Raises:
        InputError: naming the first mask that does not.
    """
    for entry in entries:
        if entry.highest_label >= num_classes:
            raise InputError(
                f"{entry.pair.mask} holds class {entry.highest_label}, but there are {num_classes} classes"
                f" (0 to {num_classes - 1}, {IGNORE} = ignored); set num_classes={entry.highest_label + 1}"
                " or correct the mask"
            )
