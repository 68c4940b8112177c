"""The progress bar of training: steps, rate, time left, and one number to watch."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingBar:
    """A bar over the steps of one training run.

    Args:
        console: Where it is drawn.
        total: Steps in all.
        unit: What a step is called.
        name: What is done.
    """

    def __init__(self, console: Console, total: int, unit: str = "steps", name: str = "training") -> None:
        columns = (
            TextColumn(name),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(f"{{task.fields[rate]:,.4g}} {unit}/s"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._progress = Progress(*columns, console=console, refresh_per_second=2)
        self._task = self._progress.add_task(name, total=total, rate=0.0, note="")
        self._started, self._before = time.perf_counter(), 0

    def start(self, done: int = 0) -> None:
        """Show the bar; the rate counts from here, where ``done`` steps are done already."""
        self._started, self._before = time.perf_counter(), done
        self._progress.update(self._task, completed=done)
        self._progress.start()

    def update(self, done: int, note: str = "") -> None:
        """Move the bar to ``done`` steps."""
        rate = (done - self._before) / max(time.perf_counter() - self._started, 1e-9)
        self._progress.update(self._task, completed=done, rate=rate, note=note)

    def stop(self) -> None:
        """Leave the bar as it stands; safe to call twice."""
        self._progress.stop()
