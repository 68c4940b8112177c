"""From a teacher and the student's own data to an :class:`Artefact`: one stage after the other, resumed anywhere."""

import dataclasses
import hashlib
import itertools
import json
from pathlib import Path
from typing import Annotated, Any

import torch
from rich.console import Console
from torch import Tensor, nn

from common.arguments import Fraction, NotNegative, Positive, Range, checked_fields
from common.augkd.anchor_learning import AnchorLearning
from common.augkd.artefact import Artefact
from common.augkd.data_free import DataFreeLearning, DataFreeWeights
from common.augkd.folder import ArtefactFolder, StageFacts
from common.augkd.losses import Uncertainty
from common.augkd.measure import measure
from common.augkd.networks import Layout
from common.augkd.stage_work import Batches, StageWork
from common.errors import InputError
from common.runs.identity import digest
from common.runs.interruption import Interruption
from common.teacher import Teacher

# Minibatches that the frequencies of labels are counted over, and that the end is measured on.
_COUNTED = 32


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
    work = StageWork(
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
        asked = first_stage(settings, teacher, domain)
        work.stage(
            "data_free",
            asked,
            {"generator": artefact.generator, "encoder": artefact.encoder},
            lambda: _data_free(settings, artefact, teacher, student, frequencies(domain).to(device), work.console),
        )
        if artefact.anchor is not None:
            what = settings.anchor(kind)
            work.stage(
                "anchor",
                StageFacts(digest([asked.key, what]), what),
                {"anchor": artefact.anchor},
                lambda: AnchorLearning(
                    artefact,
                    teacher,
                    settings.anchor_rounds,
                    settings.rate,
                    settings.invariant,
                    settings.labels,
                    kind,
                ),
            )
        artefact.freeze()
        if not work.folder.measured:
            work.seeded(0)
            samples = itertools.islice(domain.batches(0), _COUNTED)
            measured, shown = measure(artefact, teacher, samples, kind)
            work.folder.keep_measured(measured, shown)
    return artefact


def first_stage(settings: Preparation, teacher: Teacher, domain: Domain) -> StageFacts:
    """What the first stage is to be."""
    what = settings.data_free()
    return StageFacts(digest([_fingerprint(teacher), _plain(domain.layout), domain.fingerprint, what]), what)


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
