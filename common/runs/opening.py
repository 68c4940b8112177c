"""Take a run's folder: begin a run in it, or go on with the one that is there."""

import contextlib

import yaml

from common.configuration import read_settings, to_yaml
from common.errors import AlreadyFinishedError, InputError
from common.processes import is_first_process
from common.runs.checkpoint import Checkpoints
from common.runs.destination import check_free
from common.runs.folder import Run
from common.runs.identity import Identity, flatten
from common.runs.interruption import Interruption
from common.runs.keeper import Keeper
from common.runs.selection import Selection
from common.runs.status import Status
from common.runs.training import Training
from common.runs.weights import choose_weights, keep_teachers

# What may differ in a configuration that goes on with a run: where things lie, what is shown, how often it is saved.
# Of data and teachers the identity has the fingerprints.
FREE = (
    "run_dir",
    "resume",
    "logger",
    "unfinished",
    "checkpoint_every",
    "teacher",
    "anchor",
    "data.root",
    "trainer.enable_progress_bar",
)


def open_run(
    program: Training, run: Run, identity: Identity, interruption: Interruption, owned: contextlib.ExitStack
) -> Keeper:
    """Take the folder: begin a run in it, or go on with the one there."""
    if not is_first_process():
        return _follow(program, run, identity, interruption)
    _check(run, identity)
    owned.enter_context(run.lock())
    _check(run, identity)  # what another process did in between
    run.remove_leftovers()
    if run.config_path.exists() and (reason := _not_to_go_on_with(program, run)) is not None:
        moved = run.set_aside()
        program.console.print(f"{reason}; it is kept in {moved}", markup=False, soft_wrap=True)
        owned.enter_context(run.lock())
    if not run.config_path.exists():
        return _begin(program, run, identity, interruption)
    _check_same(program, run, identity)
    status = run.status() or Status("training")
    keeper = _keeper(program, run, identity, interruption, status)
    program.console.print(f"an interrupted run is in {run.path}", markup=False, soft_wrap=True)
    with interruption.writing():  # it may have been killed while doing this
        keep_teachers(run, program.teachers, program.run_settings.teacher_weights)
        program.describe(run)
    if status.stage == "trained":
        keeper.steps = status.steps
        keeper.cut_records(status.record_bytes)
        return keeper
    notes = keeper.go_on()
    theirs = run.identity()
    if theirs is not None and dict(theirs.versions) != dict(identity.versions):
        keeper.exact = False
        changed = [f"{name} {theirs.versions.get(name)} → {now}" for name, now in identity.versions.items()]
        notes.append(f"it was begun with other versions ({', '.join(changed)})")
    for note in notes:
        program.console.print(note, markup=False, soft_wrap=True)
    return keeper


def _check(run: Run, identity: Identity) -> None:
    if run.path.is_dir() and run.finished:
        there = run.identity()
        if there is not None and there.key == identity.key:
            raise AlreadyFinishedError(
                f"run_dir={run.path} already holds this very run, finished; choose another run_dir"
            )
    check_free(run)


def _begin(program: Training, run: Run, identity: Identity, interruption: Interruption) -> Keeper:
    with interruption.writing():
        run.begin(program.config_yaml(), identity, program.steps)
        keep_teachers(run, program.teachers, program.run_settings.teacher_weights)
        program.describe(run)
    keeper = _keeper(program, run, identity, interruption, Status("training", of=program.steps))
    program.begin()
    for teacher in program.teachers:
        weights = choose_weights(teacher, program.run_settings.teacher_weights)
        program.console.print(f"teacher: {weights} weights of {teacher.path}", markup=False, soft_wrap=True)
    keeper.clock.restart()
    return keeper


def _keeper(program: Training, run: Run, identity: Identity, interruption: Interruption, status: Status) -> Keeper:
    settings = program.run_settings
    return Keeper(run, settings.checkpoint_every, interruption, identity.key, status, Selection(settings.selection))


def _follow(program: Training, run: Run, identity: Identity, interruption: Interruption) -> Keeper:
    """Of another process of the same training: reads what the first one goes on from, and writes nothing."""
    keeper = _keeper(program, run, identity, interruption, run.status() or Status("training"))
    state, _ = Checkpoints(run).load()
    keeper.players = None if state is None else state["players"]
    return keeper


def _not_to_go_on_with(program: Training, run: Run) -> str | None:
    if program.run_settings.resume == "never":
        return "an interrupted run was there"
    if not run.identity_path.exists():
        return "an interrupted run was there, begun before runs could go on"
    return None


def _check_same(program: Training, run: Run, identity: Identity) -> None:
    settings = program.run_settings
    # As settings of today: an option that came since stands at what does nothing, as it was.
    before = read_settings(run.config_path, type(settings), identity.task)
    there = flatten(yaml.safe_load(to_yaml(before)))
    asked = flatten(yaml.safe_load(program.config_yaml()))
    differences = [
        f"{key}={asked.get(key)} (there: {there.get(key)})"
        for key in {**asked, **there}
        if asked.get(key) != there.get(key) and not any(f"{key}.".startswith(f"{free}.") for free in FREE)
    ]
    theirs = run.identity()
    if not differences and theirs is not None and theirs.key != identity.key:
        differences = identity.differences(theirs)
    if differences:
        raise InputError(
            f"run_dir={run.path} holds an interrupted run of another configuration: {', '.join(differences[:8])}"
            f"{' …' if len(differences) > 8 else ''}; choose another run_dir, or resume=never to move it aside"
        )
