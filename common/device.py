"""Where to compute, and the memory there."""

import contextlib
import ctypes
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


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for what it allocates next; where there is no glibc, do nothing.

    By default glibc takes blocks of more than 32 MiB from the system and gives them back at every ``free``. A training
    step's activations are such blocks: their pages are then made and zeroed anew at every step. What is kept is held
    until the process ends.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # The names of <malloc.h>.
        trim_threshold, mmap_threshold = -1, -3
        for parameter in (trim_threshold, mmap_threshold):
            mallopt(parameter, 2**30)
