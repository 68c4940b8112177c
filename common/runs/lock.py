"""A run's folder belongs to one process at a time."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import Self

from common.errors import InputError


class Lock:
    """Held while a process works in a folder; the kernel lets go of it when the process ends, however it ends.

    Args:
        path: The lock's file. Its folder must exist. The file stays and tells who held it last.

    Raises:
        InputError: when entered, another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def __enter__(self) -> Self:
        while self._handle is None:
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(handle)
                if not isinstance(error, BlockingIOError):
                    raise
                raise InputError(
                    f"run_dir={self.path.parent} is in use by {self._owner()}; wait for it or give another run_dir"
                ) from error
            if _same_file(handle, self.path):
                self._handle = handle
            else:
                os.close(handle)  # the folder was moved aside between the two calls
        owner = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")})
        os.ftruncate(self._handle, 0)
        os.pwrite(self._handle, owner.encode(), 0)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _owner(self) -> str:
        try:
            owner = json.loads(self.path.read_bytes()[:1000])
            return f"process {int(owner['pid'])} on {str(owner['host'])[:100]!r}, since {str(owner['since'])[:30]!r}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"


def _same_file(handle: int, path: Path) -> bool:
    try:
        there = path.stat()
    except OSError:
        return False
    here = os.fstat(handle)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)
