"""From the config group ``averaging`` to an averager."""

from collections.abc import Mapping
from typing import Any

from common.averaging.base import Averager
from common.averaging.ema import EMA
from common.averaging.sma import SMA
from common.averaging.swad import SWAD
from common.averaging.wakd import WAKD
from common.configuration import Choices, build

AVERAGERS: dict[str, type[Averager]] = {"wakd": WAKD, "sma": SMA, "swad": SWAD, "ema": EMA}
AVERAGING: Choices = {f"common.averaging.{kind.__name__}": kind for kind in AVERAGERS.values()}

NO_AVERAGING: Mapping[str, Any] = {"name": "none"}


def make_averager(node: Mapping[str, Any], without_validation: str | None) -> Averager | None:
    """The averager that a configuration node describes, or ``None`` for ``averaging=none``.

    Args:
        node: The config group ``averaging``.
        without_validation: What keeps the run from having a validation loss, in words, or ``None`` if it has one.

    Raises:
        InputError: a node that makes no averager, or an averager that needs the validation loss.
    """
    # In earlier configurations a function made nothing.
    if {key: value for key, value in node.items() if value != "common.averaging.no_averaging"} == NO_AVERAGING:
        return None
    averager: Averager = build(node, "averaging", AVERAGING)
    averager.check(without_validation is None, without_validation or "")
    return averager
