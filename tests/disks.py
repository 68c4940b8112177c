"""A disk that takes no more: files are held to a size, which needs no rights."""

import contextlib
import resource
from collections.abc import Iterator


@contextlib.contextmanager
def files_of(size: int) -> Iterator[None]:
    """Meanwhile this process can write no file of more bytes: writing on raises an ``OSError``, as a full disk does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
