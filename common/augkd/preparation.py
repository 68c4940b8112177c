"""From a teacher and the student's own data to an :class:`Artefact`: one stage after the other, resumed anywhere."""

import dataclasses
import hashlib
import itertools
import json
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from torch import Tensor, nn

from common.arguments import Fraction, NotNegative, Positive, Range, checked_fields
from common.augkd.artefact import Artefact
from common.augkd.folder import ArtefactFolder, StageFacts, StageName
from common.augkd.losses import Uncertainty
from common.augkd.measure import draw, measure
from common.augkd.networks import Layout
from common.augkd.stages import AnchorLearning, DataFreeLearning, DataFreeWeights, Sample, Stage
from common.errors import InputError, Interrupted
from common.progress import TrainingBar
from common.runs.checkpoint import Checkpoints
from common.runs.identity import digest
from common.runs.interruption import Interruption
from common.teacher import Teacher

Batches = Callable[[int], Iterator[Sample]]
"""The student's data, endless, from minibatch number n on: the same ones whenever it is asked."""

# Minibatches that the frequencies of labels are counted over, and that the end is measured on.
_COUNTED = 32
EVERY = 50
"""Rounds between two checkpoints."""


@checked_fields
@dataclasses.dataclass(frozen=True)
class Preparation:
    """How an artefact is prepared. The defaults are for small images on a laptop.

    Args:
        latent: L; 100 in the released code.
        width: Channels of the finest maps of generator and encoder.
        data_free_rounds: Rounds of :class:`DataFreeLearning`.
        anchor_rounds: Steps of :class:`AnchorLearning`.
        batch_size: Inputs generated at a time, where predictions are single classes.
        rate: Learning rate of both stages.
        invariant: The share of a latent that the anchor leaves as it is.
        labels: β, the weight of the labels in anchor learning.
        uncertainty: What the anchor lowers; ``None`` for ``energy`` where there are labels and ``entropy`` where the
            teacher's choices stand for them (policies).
        weights: Of the generator's losses; ``None`` for those of the kind of prediction.

    Raises:
        InputError: a value outside its range.
    """

    latent: Annotated[int, Range(1, 4096)] = 100
    width: Annotated[int, Range(1, 1024)] = 16
    data_free_rounds: Annotated[int, Range(1, 1_000_000)] = 200
    anchor_rounds: Annotated[int, Range(1, 1_000_000)] = 200
    batch_size: Annotated[int, Range(2, 65536)] = 64
    rate: Positive = 1e-3
    invariant: Fraction = 0.25
    labels: NotNegative = 1.0
    uncertainty: Uncertainty | None = None
    weights: DataFreeWeights | None = None

    def data_free(self) -> dict[str, Any]:
        """What the first stage depends on."""
        names = ("latent", "width", "data_free_rounds", "batch_size", "rate")
        own = {name: getattr(self, name) for name in names}
        return own | {"weights": None if self.weights is None else dataclasses.asdict(self.weights)}

    def anchor(self, kind: Uncertainty) -> dict[str, Any]:
        """What the second depends on beside the first."""
        names = ("anchor_rounds", "rate", "invariant", "labels")
        return {name: getattr(self, name) for name in names} | {"uncertainty": kind}


@dataclasses.dataclass(frozen=True)
class Domain:
    """The student's domain, as it is shown to the stages.

    Attributes:
        layout: What teacher and student are given and what they answer.
        batches: Its data.
        fingerprint: What stands for them.
        has_labels: Whether the labels are people's, and not the teacher's choices.
    """

    layout: Layout
    batches: Batches
    fingerprint: str
    has_labels: bool = True


def prepare(
    settings: Preparation,
    teacher: Teacher,
    student: nn.Module,
    domain: Domain,
    path: Path,
    *,
    seed: int = 0,
    anchored: bool = True,
    taken: Path | None = None,
    console: Console | None = None,
    interruption: Interruption | None = None,
) -> Artefact:
    """Take a preparation from wherever it stands to its end.

    Whatever is drawn from torch's global generator meanwhile, it stands afterwards where it stood before.

    Args:
        settings: How.
        teacher: Frozen, where the student is.
        student: From inputs to logits, as it begins; copied.
        domain: The student's.
        path: The folder where stages and states are kept. Finished stages there are not done again.
        seed: Of everything that is drawn.
        anchored: Whether the second stage is wanted.
        taken: A folder whose finished stages are taken, where they are what is asked for.
        console: Where progress is shown; ``None`` for nowhere.
        interruption: The signals, where somebody listens to them.

    Raises:
        InputError: no labelled position in the data, or a first stage of something else in a folder.
        NonFiniteLossError: a stage diverged; what was finished before it is kept.
        Interrupted: a signal came; the same call goes on.
    """
    device = next(student.parameters()).device
    work = _Work(
        ArtefactFolder(path),
        None if taken is None else ArtefactFolder(taken),
        console or Console(quiet=True),
        interruption or Interruption(),
        domain.batches,
        seed,
    )
    kind = settings.uncertainty or ("energy" if domain.has_labels else "entropy")
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        work.seeded(0)
        artefact = Artefact(domain.layout, settings.latent, settings.width, anchored).to(device)
        wanted = frequencies(domain).to(device)
        what = settings.data_free()
        asked = StageFacts(digest([_fingerprint(teacher), _plain(domain.layout), domain.fingerprint, what]), what)
        work.stage("data_free", _data_free(settings, artefact, teacher, student, wanted, work.console), asked)
        if artefact.anchor is not None:
            stage = AnchorLearning(
                artefact,
                teacher,
                settings.anchor_rounds,
                settings.rate,
                settings.invariant,
                settings.labels,
                kind,
            )
            what = settings.anchor(kind)
            work.stage("anchor", stage, StageFacts(digest([asked.key, what]), what))
        artefact.freeze()
        if not work.folder.measured:
            work.seeded(0)
            samples = itertools.islice(domain.batches(0), _COUNTED)
            measured, shown = measure(artefact, teacher, samples, kind)
            work.folder.keep_measured(measured, shown, draw(shown))
    return artefact


def _data_free(
    settings: Preparation, artefact: Artefact, teacher: Teacher, student: nn.Module, wanted: Tensor, console: Console
) -> DataFreeLearning:
    stage = DataFreeLearning(
        artefact,
        teacher,
        student,
        wanted,
        settings.data_free_rounds,
        settings.batch_size,
        settings.rate,
        weights=settings.weights,
    )
    if stage.statistics.layers == 0:
        console.print(
            "warning: the teacher has no BatchNorm layers that remember what its data were like; generated samples"
            " are only what it is sure of",
            style="yellow",
        )
    return stage


@dataclasses.dataclass
class _Work:
    folder: ArtefactFolder
    taken: ArtefactFolder | None
    console: Console
    interruption: Interruption
    batches: Batches
    seed: int

    def seeded(self, part: int) -> None:
        """Seed a part of the work, whatever was drawn before it, or taken from a folder without drawing."""
        torch.manual_seed(3 * self.seed + part)

    def stage(self, name: StageName, stage: Stage, asked: StageFacts) -> None:
        """Give the stage's networks the weights that it ends with: from a folder that has it, or by training it."""
        kept = stage.networks()
        if self._there(name, asked) or self._to_take(name, asked):
            # Not the student of the first stage, which may be another one than is trained here.
            self.folder.load(name, {owner: network for owner, network in kept.items() if owner != "student"})
            return
        self.seeded(1 if name == "data_free" else 2)
        seconds = self._train(stage, asked)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if torch.cuda.is_available():
            peak = max(peak, torch.cuda.max_memory_allocated() / 2**20)
        facts = dataclasses.replace(asked, seconds=seconds, peak_mebibytes=peak)
        with self.interruption.writing():
            self.folder.keep(name, facts, kept)
        self.console.print(f"{stage.name}: {stage.rounds:,} rounds in {seconds:.0f} s")

    def _there(self, name: StageName, asked: StageFacts) -> bool:
        there = self.folder.stage(name)
        if there is not None and there.key != asked.key:
            raise InputError(f"{self.folder.path} was prepared otherwise: {_told(asked, there)}; give another folder")
        return there is not None

    def _to_take(self, name: StageName, asked: StageFacts) -> bool:
        theirs = None if self.taken is None else self.taken.stage(name)
        if self.taken is None or (theirs is None and name == "anchor"):
            return False
        if theirs is None:
            raise InputError(f"{self.taken.path} holds no finished {name} stage; give a run of method=augkd")
        if theirs.key == asked.key:
            with self.interruption.writing():
                self.folder.take(name, self.taken)
            return True
        told = _told(asked, theirs)
        if name == "data_free":
            raise InputError(f"{self.taken.path} was prepared otherwise: {told}; leave anchor= out to prepare anew")
        self.console.print(f"the anchor there is another ({told}); it is learnt anew", markup=False)
        return False

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


def _told(asked: StageFacts, there: StageFacts) -> str:
    """What is asked for and what there is, where they differ."""
    differences = [
        f"{key}={asked.what.get(key)} (there: {there.what.get(key)})"
        for key in {**asked.what, **there.what}
        if asked.what.get(key) != there.what.get(key)
    ]
    return ", ".join(differences) or "its teacher, its data or what comes before it is another"


def frequencies(domain: Domain) -> Tensor:
    """How often each class is among the labels, ``[C]``, a class that is not there taken for one position.

    Raises:
        InputError: nothing is labelled.
    """
    counts = torch.zeros(domain.layout.classes)
    for sample in itertools.islice(domain.batches(0), _COUNTED):
        hot = domain.layout.one_hot(sample.labels, sample.valid)
        counts += hot.transpose(0, 1).flatten(1).sum(dim=1).cpu()
    if counts.sum() == 0:
        raise InputError("the student's own data have no label, which the generator and the anchor need; label some")
    return counts.clamp(min=1) / counts.clamp(min=1).sum()


def _fingerprint(module: nn.Module) -> str:
    """Of all its weights."""
    hashed = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        hashed.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        hashed.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()[:12]


def _plain(layout: Layout) -> dict[str, Any]:
    # Maps of any size are generated by the same networks.
    plain = json.loads(json.dumps(dataclasses.asdict(layout)))
    return {key: value for key, value in plain.items() if not (layout.dense and key == "size")}
