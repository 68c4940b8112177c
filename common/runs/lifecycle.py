"""A run from its beginning to its end, the same for both tasks: prepare, fit, keep weights, test, record, finish."""

import contextlib
import dataclasses
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from common.configuration import read_settings, to_yaml
from common.distillation import Distillation
from common.errors import AlreadyFinishedError, InputError, Interrupted
from common.processes import is_first_process
from common.runs.checkpoint import Checkpoints
from common.runs.folder import Run, Status
from common.runs.identity import Identity, flatten
from common.runs.interruption import Interruption, interruptible
from common.runs.keeper import Keeper
from common.runs.records import AVERAGED, LAST, SELECTIONS, Judged, Record
from common.runs.selection import Selection
from common.runs.settings import RunSettings
from common.runs.weights import choose_weights, keep_teachers, load_weights, save_weights, weights_path
from common.watch import check_loggers, make_watch, name_of

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


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a test measured."""

    records: Sequence[Record]
    items: Mapping[str, NDArray[Any]]


class Training(ABC):
    """What a training program supplies: made when everything that could be refused has been.

    Args:
        settings: As configured. What only the command line can tell in ``run_dir``, ``{data}`` and ``{changes}``, is
            left out where it has not filled it in; ``{hash}`` stands for what the run is.
        console: Where it tells what it does.

    Attributes:
        steps: How many the run is to take.
        teachers: Runs of the teachers it asks, none where it asks none.
        distillation: The method, as it is in training.
        averaging_from: The part of training after which weights are averaged, ``None`` where they are not.
    """

    steps: int
    teachers: Sequence[Run]
    distillation: Distillation
    averaging_from: float | None

    def __init__(self, settings: RunSettings, console: Console) -> None:
        self.run_settings, self.console = settings, console

    def config_yaml(self) -> str:
        """The resolved configuration."""
        return to_yaml(self.run_settings)

    def folder(self, identity: Identity) -> Run:
        """Where the run goes."""
        path = self.run_settings.run_dir.replace("{data}/", "").replace("{changes}", "")
        return Run(path.replace("{hash}", identity.short))

    @abstractmethod
    def identity(self) -> Identity:
        """What the run is."""

    @abstractmethod
    def describe(self, run: Run) -> None:
        """Write what only this program knows of a run; again, where it goes on, in case it was killed meanwhile."""

    @abstractmethod
    def begin(self) -> None:
        """Tell what a user should see before hours are spent on a run that begins."""

    @abstractmethod
    def row(self, judged: Judged, metric: str, value: float) -> Record:
        """A row about the training itself, on the run's own domain."""

    def prepare(self, keeper: Keeper) -> None:  # noqa: B027 - most methods need nothing
        """Make what the method needs before the first step, or find it where the run was interrupted after it.

        Raises:
            NonFiniteLossError: it diverged.
            Interrupted: a signal came; the same again goes on.
        """

    @abstractmethod
    def fit(self, keeper: Keeper) -> int:
        """Train to the end, from where ``keeper.players`` says; gives the steps that were taken in all.

        Raises:
            NonFiniteLossError: training diverged.
            Interrupted: a signal came.
        """

    @abstractmethod
    def networks(self) -> dict[str, nn.Module]:
        """What is to be kept and tested after :meth:`fit`: the last weights, and the averaged ones if there are any."""

    @abstractmethod
    def copied(self) -> nn.Module:
        """A copy of the network that is trained, to be given other weights of it."""

    def show(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> None:  # noqa: B027 - nothing hangs on it
        """Give ``keeper.watch`` pictures of what was trained."""

    @abstractmethod
    def test(self, networks: Mapping[str, nn.Module], keeper: Keeper) -> Outcome:
        """Measure, and show a table; ``keeper.status`` has steps and seconds."""


def check_early(run_dir: str) -> None:
    """Refuse a folder that can hold no run, before data are read and networks made.

    Raises:
        InputError: as :meth:`common.runs.folder.Run.check_usable`.
    """
    if "{" not in run_dir:
        Run(run_dir).check_usable()


def train(program: Training) -> Run:
    """Take a run from wherever it stands to its end.

    The folder is this process's own meanwhile. A signal ends it, with what has been trained on disk; the same command
    goes on from there.

    Raises:
        InputError: a folder that cannot be used, a run of another configuration in it, or nothing was trained.
        AlreadyFinishedError: the folder holds this very run, finished.
        NonFiniteLossError: training diverged; what was saved before is in the folder.
        Interrupted: a signal came.
    """
    check_loggers(program.run_settings.logger)
    identity = program.identity()
    run = program.folder(identity)
    with interruptible() as interruption, contextlib.ExitStack() as owned:
        keeper = _open(program, run, identity, interruption, owned)
        if is_first_process():
            keeper.watch = make_watch(program.run_settings.logger, run.path, keeper.steps)
        with _explained(keeper), contextlib.closing(keeper.watch):
            if keeper.status.stage == "training":
                program.prepare(keeper)
                steps = program.fit(keeper)
                if not is_first_process():
                    return run
                networks = _keep(program, keeper, steps)
            else:
                program.console.print("it is trained already and will be tested")
                networks = _kept(program, run)
            outcome = program.test(networks, keeper)
            _finish(keeper, outcome)
            _show(program, keeper, networks, outcome)
    return run


def _keep(program: Training, keeper: Keeper, steps: int) -> dict[str, nn.Module]:
    seconds = keeper.clock.seconds()
    if steps < 1:
        raise InputError(f"{keeper.run.path}: no step was trained, so there is nothing to test; see trainer.*")
    networks = program.networks()
    for rule, weights in keeper.selection.weights().items():
        networks[rule] = program.copied()
        networks[rule].load_state_dict(weights)
    idle = program.distillation.tally.idle()
    if AVERAGED not in networks and program.averaging_from is not None:
        idle.append(f"training ended before averaging.start={program.averaging_from}; nothing is averaged")
    idle += [
        f"no validation gave a score for selection={rule}" for rule in keeper.selection.rules if rule not in networks
    ]
    for line in idle:
        program.console.print(f"warning: {line}", style="yellow", markup=False, soft_wrap=True)
    keeper.record_shares(program.distillation.tally, program.row, steps)
    travelled = keeper.travel.distance
    if travelled is not None:
        keeper.record([program.row(keeper.judged(LAST, steps), "weight_distance", travelled)])
    with keeper.interruption.writing():
        for selection, network in networks.items():
            save_weights(network, keeper.run, selection)
        keeper.set_status("trained", steps, seconds, idle)
    program.console.print(f"trained {steps:,} steps in {seconds:.0f} s; testing")
    return networks


def _kept(program: Training, run: Run) -> dict[str, nn.Module]:
    """The same networks from a run that has written them."""
    networks = program.networks()
    networks |= {name: program.copied() for name in SELECTIONS if name != LAST and weights_path(run, name).exists()}
    for name, network in networks.items():
        load_weights(network, run, name)
    return networks


def _finish(keeper: Keeper, outcome: Outcome) -> None:
    run, status = keeper.run, keeper.status
    with keeper.interruption.writing():
        run.save_items(outcome.items)
        run.append(outcome.records)
        keeper.set_status("finished", status.steps, status.seconds)
        Checkpoints(run).clear()


def _show(program: Training, keeper: Keeper, networks: Mapping[str, nn.Module], outcome: Outcome) -> None:
    keeper.watch.records(outcome.records)
    if keeper.watch.draws:
        program.show(networks, keeper)
    scores = {name_of(record): record.value for record in outcome.records if record.split == "test"}
    keeper.watch.end(flatten(yaml.safe_load(program.config_yaml())), scores)


def _open(
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
    run.check_free()


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


@contextlib.contextmanager
def _explained(keeper: Keeper) -> Iterator[None]:
    """Tell how to go on when something ends the run early; of an interruption, save what there is."""
    try:
        yield
    except Interrupted as error:
        keeper.interruption.acknowledge()
        if error.message:
            raise  # told by whoever knows better
        if keeper.status.stage == "training" and is_first_process():
            steps = keeper.save()
            error.message = f"interrupted; saved at step {steps:,}: the same command goes on from there"
        else:
            error.message = "interrupted; it is trained: the same command tests it"
        raise
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        message = f"{error.strerror} ({error.filename or keeper.run.path}); make room, and the same command goes on"
        raise InputError(message) from error
