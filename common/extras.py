"""Libraries that only an extra brings."""

import importlib
from typing import Any

from common.errors import InputError


def from_extra(module: str, extra: str, needs: str, instead: str = "") -> Any:
    """A module of such a library.

    Args:
        module: Its name.
        extra: What brings it.
        needs: Whom and what it is for, up to the verb: ``"polygons need"``.
        instead: What does without, to end the message with.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        missing = "" if name == extra else f" ({name} is missing)"
        raise InputError(f"{needs} the extra {extra!r}{missing}: pip install 'kdshift[{extra}]'{instead}") from error
