"""Seconds of training, evaluation excluded."""

import contextlib
import time
from collections.abc import Iterator


class TrainingClock:
    """Runs from its creation, except inside :meth:`paused`."""

    def __init__(self) -> None:
        self.restart()

    def restart(self, seconds: float = 0.0) -> None:
        """Begin again, at zero or where an interrupted training stood."""
        self._started = time.perf_counter() - seconds
        self._halted: float | None = None

    def seconds(self) -> float:
        """Seconds trained so far."""
        return (time.perf_counter() if self._halted is None else self._halted) - self._started

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Work inside does not count."""
        self._halted = time.perf_counter()
        try:
            yield
        finally:
            self._started += time.perf_counter() - self._halted
            self._halted = None
