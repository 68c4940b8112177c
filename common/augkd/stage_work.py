"""A stage from wherever it stands to its end: found finished, taken from elsewhere, gone on with, or begun."""

import dataclasses
import itertools
import resource
import time
from collections.abc import Callable, Iterator, Mapping

import torch
from rich.console import Console
from torch import nn

from common.augkd.folder import ArtefactFolder, StageFacts, StageName
from common.augkd.stages import Sample, Stage
from common.errors import InputError, Interrupted
from common.progress import TrainingBar
from common.runs.checkpoint import Checkpoints
from common.runs.interruption import Interruption

Batches = Callable[[int], Iterator[Sample]]
"""The student's data, endless, from minibatch number n on: the same ones whenever it is asked."""

EVERY = 50
"""Rounds between two checkpoints."""


@dataclasses.dataclass
class StageWork:
    """The work on stages in one folder.

    Args:
        folder: Where stages and states are kept.
        taken: A folder whose finished stages are taken, where they are what is asked for.
        console: Where progress is shown.
        interruption: The signals.
        batches: The student's data.
        seed: Of everything that is drawn.
    """

    folder: ArtefactFolder
    taken: ArtefactFolder | None
    console: Console
    interruption: Interruption
    batches: Batches
    seed: int

    def seeded(self, part: int) -> None:
        """Seed a part of the work, whatever was drawn before it, or taken from a folder without drawing."""
        torch.manual_seed(3 * self.seed + part)

    def stage(
        self, name: StageName, asked: StageFacts, wanted: Mapping[str, nn.Module], make: Callable[[], Stage]
    ) -> None:
        """Give networks the weights that a stage ends with: from a folder that has it, or by training it.

        Args:
            name: The stage's.
            asked: What it is to be.
            wanted: The networks.
            make: Makes the stage that trains them, where it has to be trained.
        """
        if self._there(name, asked) or self._to_take(name, asked):
            self.folder.load(name, wanted)
            return
        stage = make()
        self.seeded(1 if name == "data_free" else 2)
        seconds = self._train(stage, asked)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if torch.cuda.is_available():
            peak = max(peak, torch.cuda.max_memory_allocated() / 2**20)
        facts = dataclasses.replace(asked, seconds=seconds, peak_mebibytes=peak)
        with self.interruption.writing():
            self.folder.keep(name, facts, stage.networks())
        self.console.print(f"{stage.name}: {stage.rounds:,} rounds in {seconds:.0f} s")

    def _there(self, name: StageName, asked: StageFacts) -> bool:
        there = self.folder.stage(name)
        if there is not None and there.key != asked.key:
            raise InputError(f"{self.folder.path} was prepared otherwise: {_told(asked, there)}; give another folder")
        return there is not None

    def _to_take(self, name: StageName, asked: StageFacts) -> bool:
        if self.taken is None:
            return False
        if name == "data_free":
            check_first(self.taken, asked)
        theirs = self.taken.stage(name)
        if theirs is None:
            return False
        if theirs.key != asked.key:
            told = _told(asked, theirs)
            self.console.print(f"the anchor there is another ({told}); it is learnt anew", markup=False)
            return False
        with self.interruption.writing():
            self.folder.take(name, self.taken)
        return True

    def _train(self, stage: Stage, asked: StageFacts) -> float:
        """Seconds that the stage took."""
        checkpoints = self.folder.checkpoints
        state, notes = checkpoints.load()
        for note in notes:
            self.console.print(note, markup=False)
        before = 0.0
        if state is not None and state["key"] == asked.key:
            stage.load(state["players"])
            torch.set_rng_state(state["generator"])
            if state["cuda"] and torch.cuda.is_available():
                torch.cuda.set_rng_state_all(state["cuda"])
            before = state["seconds"]
            self.console.print(f"{stage.name} goes on from round {stage.done:,}")
        started = time.perf_counter() - before
        bar = TrainingBar(self.console, stage.rounds, "rounds", stage.name)
        bar.start(stage.done)
        try:
            with self.interruption.deferred():
                for sample in itertools.islice(self.batches(stage.done), stage.rounds - stage.done):
                    note = stage.round(sample)
                    bar.update(stage.done, note)
                    if stage.done % EVERY == 0 or self.interruption.pending:
                        self._save(checkpoints, stage, asked, time.perf_counter() - started)
                    self.interruption.check()
        except Interrupted as error:
            error.message = f"interrupted in {stage.name}, round {stage.done:,}: the same command goes on from there"
            raise
        finally:
            bar.stop()
        return time.perf_counter() - started

    def _save(self, checkpoints: Checkpoints, stage: Stage, asked: StageFacts, seconds: float) -> None:
        state = {
            "key": asked.key,
            "players": stage.state(),
            "generator": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "seconds": seconds,
        }
        with self.interruption.writing():
            checkpoints.save(state, stage.done)


def check_first(taken: ArtefactFolder, asked: StageFacts) -> None:
    """Refuse a folder whose first stage cannot be taken.

    Args:
        taken: The folder.
        asked: What its first stage is to be.

    Raises:
        InputError: it has none, or one of something else.
    """
    there = taken.stage("data_free")
    if there is None:
        raise InputError(f"{taken.path} holds no finished data-free stage; give a run of method=augkd")
    if there.key != asked.key:
        told = _told(asked, there)
        raise InputError(f"{taken.path} was prepared otherwise: {told}; leave anchor= out to prepare anew")


def _told(asked: StageFacts, there: StageFacts) -> str:
    """What is asked for and what there is, where they differ."""
    differences = [
        f"{key}={asked.what.get(key)} (there: {there.what.get(key)})"
        for key in {**asked.what, **there.what}
        if asked.what.get(key) != there.what.get(key)
    ]
    return ", ".join(differences) or "its teacher, its data or what comes before it is another"
