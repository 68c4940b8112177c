"""A run from its beginning to its end, the same for both tasks: prepare, fit, keep weights, test, record, finish."""

import contextlib
import errno
from collections.abc import Iterator, Mapping

import yaml
from torch import nn

from common.errors import InputError, Interrupted
from common.processes import is_first_process
from common.runs.checkpoint import Checkpoints
from common.runs.destination import check_usable
from common.runs.folder import Run
from common.runs.identity import flatten
from common.runs.interruption import interruptible
from common.runs.keeper import Keeper
from common.runs.opening import open_run
from common.runs.records import AVERAGED, LAST, SELECTIONS, fraction_filtered
from common.runs.training import Outcome, Training
from common.runs.weights import load_weights, save_weights, weights_path
from common.watch import check_loggers, make_watch, name_of


def check_early(run_dir: str) -> None:
    """Refuse a folder that can hold no run, before data are read and networks made.

    Raises:
        InputError: as :func:`common.runs.destination.check_usable`.
    """
    if "{" not in run_dir:
        check_usable(Run(run_dir))


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
        keeper = open_run(program, run, identity, interruption, owned)
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
    filtered = fraction_filtered(keeper.run.records())
    took = "" if filtered is None else f", the filter taking {100 * filtered:.1f} % of the positions"
    program.console.print(f"trained {steps:,} steps in {seconds:.0f} s{took}; testing")
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
