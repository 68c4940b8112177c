"""What keeps a training's state while it runs, and gives it back when it goes on."""

import copy
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import nn

from common.clock import TrainingClock
from common.runs.checkpoint import Checkpoints, State
from common.runs.folder import Run
from common.runs.generators import generator_states, restore_generators
from common.runs.interruption import Interruption
from common.runs.records import LAST, Judged, Record, Resumed
from common.runs.selection import Selection
from common.runs.status import Stage, Status
from common.runs.travel import Travel
from common.runs.weights import save_weights
from common.tally import Tally
from common.watch import Watch

MakeRow = Callable[[Judged, str, float], Record]
"""From what rows share, a metric and its value to a row about the training itself."""


def machine() -> dict[str, Any]:
    """What a computation's rounding depends on beside the libraries."""
    return {"threads": torch.get_num_threads(), "cuda": torch.cuda.is_available()}


class Keeper:
    """Keeps the state of one training.

    A program gives its own players; random generators, the clock and the length of the records are kept beside them,
    so that what a training had recorded after the state it goes on from is not recorded twice.

    Args:
        run: The run; its folder is this process's own.
        every: Steps between two checkpoints.
        interruption: The signals.
        identity: Key of the run's identity, for records.
        status: As the run stands.
        selection: What is kept of the weights that validations like best.

    Attributes:
        clock: Seconds of training.
        players: The program's state to go on from, or ``None`` for a training that begins.
        steps: Steps of that state.
        watch: Where the training shows itself.
        travel: How far the weights have gone.
        exact: Whether the training is, so far, bit for bit one that was never interrupted.
    """

    def __init__(
        self,
        run: Run,
        every: int,
        interruption: Interruption,
        identity: str,
        status: Status,
        selection: Selection | None = None,
    ) -> None:
        self.run, self.every, self.interruption, self.identity = run, every, interruption, identity
        self.status = status
        self.selection = selection or Selection()
        self.clock = TrainingClock()
        self.travel = Travel()
        self.players: State | None = None
        self.steps = 0
        self.watch = Watch()
        self.exact = status.resumed == ""
        self._generators: State | None = None
        self._snapshot: State | None = None
        self._next = every

    def go_on(self) -> list[str]:
        """Take up the latest state there is, and forget what was recorded after it.

        Returns:
            What a user should know, a line each.

        Raises:
            InputError: there are states, and all are damaged.
        """
        state, notes = Checkpoints(self.run).load()
        if state is None:
            self.cut_records(0)
            return [*notes, "it had no checkpoint yet and begins again"]
        if state["machine"] != machine():
            self.exact = False
            notes.append(f"it ran on {state['machine']}, this is {machine()}: rounding may differ")
        self.exact = self.exact and state["exact"]
        self.cut_records(state["record_bytes"])
        self._generators = state["generators"]
        self.players, self.steps = state["players"], state["steps"]
        self.travel.load(state.get("travel", {}))
        self.selection.load(state.get("selection", {}))
        self.clock.restart(state["seconds"])
        self._next = (state["steps"] // self.every + 1) * self.every
        return [*notes, f"it goes on from step {state['steps']:,}"]

    def cut_records(self, length: int) -> None:
        """Forget what was recorded after the records had that length."""
        if self.run.record_bytes > length:
            os.truncate(self.run.record_path, length)

    def restore_generators(self) -> None:
        """Set the random generators as they were; the last thing before a training goes on."""
        if self._generators is not None:
            restore_generators(self._generators)
            self._generators = None

    def is_due(self, steps: int) -> bool:
        """Whether it is time for a checkpoint."""
        return steps >= self._next

    def remember(self, players: State, steps: int) -> None:
        """Keep the state of a safe moment in memory, for when the training is interrupted after it.

        Args:
            players: The program's state; copied.
            steps: Steps trained so far.
        """
        self._snapshot = {
            "players": copy.deepcopy(players),
            "generators": generator_states(),
            "travel": self.travel.state(),
            "selection": self.selection.state(),
            "seconds": self.clock.seconds(),
            "record_bytes": self.run.record_bytes,
            "steps": steps,
            "machine": machine(),
            "exact": self.exact,
        }

    def save(self) -> int:
        """Write what :meth:`remember` kept last.

        Returns:
            Its steps, 0 where nothing is remembered.

        Raises:
            OSError: it cannot be written; the checkpoints there were are kept.
        """
        if self._snapshot is None:
            return self.status.steps
        steps: int = self._snapshot["steps"]
        with self.interruption.writing():
            Checkpoints(self.run).save(self._snapshot, steps)
            self.set_status("training", steps, self._snapshot["seconds"])
        while self._next <= steps:
            self._next += self.every
        return steps

    def save_weights(self, networks: Iterable[tuple[str, nn.Module]]) -> None:
        """Write weights beside the state, for whoever wants to look at an unfinished run."""
        with self.interruption.writing():
            for name, network in networks:
                save_weights(network, self.run, name)

    def set_status(self, stage: Stage, steps: int, seconds: float, idle: Sequence[str] = ()) -> None:
        """Write how far the run has come, and what of it has not acted."""
        idle = tuple(idle) or self.status.idle
        self.status = Status(stage, steps, self.status.of, seconds, self._resumed, self.run.record_bytes, idle)
        self.run.set_status(self.status)

    def judged(self, selection: str, steps: int | None = None) -> Judged:
        """What records of these weights share: as the status says, or in training after so many steps."""
        if steps is None:
            return Judged(self.status.steps, self.status.seconds, selection, self.identity, self._resumed)
        return Judged(steps, self.clock.seconds(), selection, self.identity, self._resumed)

    @property
    def _resumed(self) -> Resumed:
        return "" if self.exact else "inexact"

    def record_shares(self, tally: Tally, row: MakeRow, steps: int) -> None:
        """Append a row for each share that a method's parts took of the batch since the rows before."""
        judged = self.judged(LAST, steps)
        self.record([row(judged, name, share) for name, share in tally.take_shares().items()])

    def record(self, records: Iterable[Record]) -> None:
        """Append rows to the run's."""
        rows = list(records)
        with self.interruption.writing():
            self.run.append(rows)
        self.watch.records(rows)
