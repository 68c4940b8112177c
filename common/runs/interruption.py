"""Ctrl-C and termination: at once where nothing is half done, at the next safe moment where something is."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from common.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """The signals that have come.

    A signal raises :class:`common.errors.Interrupted` where it finds the program, except inside :meth:`deferred`: there
    it waits for :meth:`check`, or for the block's end. A second one does not wait, unless something is being written.
    """

    def __init__(self) -> None:
        self._pending: int | None = None
        self._deferred = 0
        self._writing = 0

    def install(self) -> None:
        """Take the signals; again, where a library has taken them in the meantime."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self._receive)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        second = self._pending is not None
        self._pending = number
        if not self._writing and (second or not self._deferred):
            raise Interrupted(number)

    @property
    def pending(self) -> bool:
        """Whether a signal waits."""
        return self._pending is not None

    def acknowledge(self) -> None:
        """The signal has been heeded: what is done now to save things is not interrupted by it again."""
        self._pending = None

    def check(self) -> None:
        """Raise if a signal waits."""
        if self._pending is not None:
            raise Interrupted(self._pending)

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, a signal waits for :meth:`check`; it is raised at the end of the block at the latest."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1
        if not self._deferred:
            self.check()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Inside, nothing interrupts: a file is being written."""
        self._writing += 1
        try:
            yield
        finally:
            self._writing -= 1
        if not self._writing and not self._deferred:
            self.check()


@contextlib.contextmanager
def interruptible() -> Iterator[Interruption]:
    """Inside, SIGINT and SIGTERM are those of an :class:`Interruption`; outside, what they were before."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    interruption = Interruption()
    interruption.install()
    try:
        yield interruption
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
