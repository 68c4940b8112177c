"""Where to compute."""

import os

import torch

from common.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device named, or with ``auto`` a GPU where there is one.

    Raises:
        InputError: a device that torch does not know or this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).cpu()  # "meta" has no values
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n")[0]
        raise InputError(f"device={name!r} cannot be used ({reason}); use auto, cpu or cuda") from error
    return device


def memory_bytes() -> int:
    """Main memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
