"""AuG-KD's preparation inside a training program: before the first step, in the run's own folder."""

import copy
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from common.augkd.folder import ArtefactFolder
from common.augkd.preparation import Domain, first_stage, prepare
from common.augkd.stage_work import check_first
from common.distillation import Distillation
from common.errors import InputError
from common.processes import is_first_process
from common.runs.folder import Run
from common.runs.items import item_key
from common.runs.keeper import Keeper
from common.runs.records import Record
from common.runs.settings import RunSettings
from common.terms.augkd import AuGKD


def augkd_term(
    distillation: Distillation, student: nn.Module, domain: Callable[[AuGKD], Domain], anchor: str | None = None
) -> AuGKD | None:
    """The method's term, if it has one.

    Args:
        distillation: The method.
        student: From inputs to logits, as it is before the first step.
        domain: Describes the student's.
        anchor: The run whose artefact is to be taken, if any.

    Raises:
        InputError: more than one, a run to take the artefact from that has none or one of something else, or such a
            run without the term.
    """
    terms = [term for term in distillation.terms.values() if isinstance(term, AuGKD)]
    if len(terms) > 1:
        raise InputError(f"method={distillation.name} has {len(terms)} terms of AuG-KD; one can be prepared")
    if anchor is None:
        return terms[0] if terms else None
    if not terms:
        raise InputError(
            f"anchor={anchor}: method={distillation.name} has no use for it; remove it, or use method=augkd"
        )
    term, folder = terms[0], ArtefactFolder(Run(anchor).anchor)
    assert distillation.teacher is not None
    try:
        check_first(folder, first_stage(term.preparation, distillation.teacher, domain(term)))
    except InputError as error:
        raise InputError(f"anchor={anchor}: {error}") from error
    if term.start == "data_free":
        try:
            folder.load("data_free", {"student": copy.deepcopy(student)})
        except InputError as error:
            raise InputError(f"anchor={anchor} is of another student: {error}; use start=fresh") from error
    return term


def artefact_hashes(anchor: str | None) -> tuple[str, ...]:
    """Of the artefact that is taken from another run, if one is: beside its teachers, what a run was given."""
    return () if anchor is None else (ArtefactFolder(Run(anchor).anchor).digest(),)


def prepare_term(
    term: AuGKD,
    distillation: Distillation,
    student: nn.Module,
    domain: Domain,
    settings: RunSettings,
    keeper: Keeper,
    console: Console,
    row: Callable[[str, float], Record],
) -> None:
    """Give the term its artefact, and a student that begins the weights to begin with.

    Args:
        term: The method's.
        distillation: The method, with its teacher.
        student: From inputs to logits, as it is before the first step.
        domain: The student's.
        settings: The run's.
        keeper: The run's; costs and what is measured are recorded.
        console: Where progress is shown.
        row: Makes a record of this run on its own domain, of a metric and its value.

    Raises:
        InputError: as :func:`common.augkd.prepare`.
        NonFiniteLossError: as there.
        Interrupted: as there.
    """
    assert distillation.teacher is not None
    distillation.to(next(student.parameters()).device)
    begins = keeper.players is None
    folder = ArtefactFolder(keeper.run.anchor)
    term.artefact = prepare(
        term.preparation,
        distillation.teacher,
        student,
        domain,
        folder.path,
        seed=settings.seed,
        anchored=term.anchored,
        taken=None if settings.anchor is None else Run(settings.anchor).anchor,
        console=console,
        interruption=keeper.interruption,
    )
    if not begins:
        return
    if term.start == "data_free":
        folder.load("data_free", {"student": student})
    if not is_first_process():
        return  # which has prepared, recorded and said all this before it started the others
    # What it took belongs to what the run costs, also where another run has paid for it.
    keeper.clock.restart(sum(facts.seconds for facts in folder.stages.values()))
    keeper.record(row(name, value) for name, value in _told(folder).items())
    confidence = [f"{name} {folder.measured[f'confidence/{name}']:.2f}" for name in ("real", "before the anchor")]
    if term.anchored:
        confidence.append(f"after the anchor {folder.measured['confidence/after the anchor']:.2f}")
    console.print(f"the teacher's confidence on the student's domain: {', '.join(confidence)}", markup=False)
    console.print(f"samples to look at: {folder.path / 'samples.png'}", markup=False, soft_wrap=True)


def _told(folder: ArtefactFolder) -> dict[str, float]:
    """Costs and measurements as metrics of records."""
    told: dict[str, float] = {f"augkd/{name}": value for name, value in folder.measured.items()}
    for name, facts in folder.stages.items():
        told |= {f"augkd/{name}/seconds": facts.seconds, f"augkd/{name}/peak_mebibytes": facts.peak_mebibytes}
    return told


def sample_items(run: Run, domain: str) -> dict[str, NDArray[Any]]:
    """Arrays for ``items.npz`` of the samples that were measured, if any were."""
    folder = ArtefactFolder(run.anchor)
    if not folder.measured:
        return {}
    samples = folder.samples()
    return {item_key(f"anchor_{name}", domain, True): array for name, array in samples.items()}
