"""Returns of a policy on levels and looks it may not have seen: kdrl-evaluate."""

import dataclasses
import time
from collections.abc import Sequence

from rich.console import Console
from torch import nn

from common.application import run as run_application
from common.errors import InputError
from common.evaluation.measures import place, take
from common.runs.destination import check_new, keep_evaluation
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.records import Judged, Weights
from common.runs.row import teacher_hashes, teacher_kind
from common.runs.weights import choose_weights
from kdrl.episodes import measure
from kdrl.measures import PolicySubject
from kdrl.networks import PolicyLogits
from kdrl.records import items, print_returns, rows
from kdrl.restore import import_named, load_network, load_teacher
from kdrl.settings import EvaluateSettings


def evaluate(settings: EvaluateSettings) -> None:
    """Play a finished run's policy and print, and with ``out`` record, its returns.

    Several runs are played as one policy, the mean of their probabilities; its steps and seconds are their sums.

    Raises:
        InputError: no finished RL run there, or none with such weights, an unknown look, or an ``out`` that holds
            something.
    """
    import_named(settings.modules)
    paths = [settings.run] if isinstance(settings.run, str) else settings.run
    source = Run(paths[0])
    policy, trained = load_network(source, settings.weights, settings.device)
    network: nn.Module = PolicyLogits(policy)
    selection = choose_weights(source, settings.weights)
    trained.env.num_envs = settings.num_envs
    states = [Run(path).check_finished(f"run={path}", settings.unfinished) for path in paths]
    if len(paths) > 1:
        network = load_teacher(
            paths, trained.env.game, settings.weights, unfinished=settings.unfinished, device=settings.device
        )
        trained.method["name"] += f"-ensemble{len(paths)}"
    if "segpgd" in settings.attacks.names:
        raise InputError("attacks.names: segpgd is of maps; use fgsm or pgd")
    if len(paths) > 1 and settings.measures:
        raise InputError(f"measures={settings.measures} are taken of one run, and there are {len(paths)}; give one run")
    out = None if settings.out is None else Run(settings.out)
    if out is not None:
        check_new(out)
    kept_in = place(settings, source, out, False)
    started = time.perf_counter()
    measured = list(measure(network, trained, settings.looks, settings.episodes, settings.seed))
    console = Console()
    print_returns(console, trained.env.game, measured, selection)
    console.print(f"weights: {selection}")
    console.print(f"{time.perf_counter() - started:.0f} s")
    steps, seconds = sum(state.steps for state in states), sum(state.seconds for state in states)
    identity = _identity([Run(path) for path in paths], settings.weights)
    judged = Judged(steps, seconds, selection, "" if identity is None else identity.key, states[0].resumed)
    if out is not None:
        status = dataclasses.replace(states[0], steps=steps, seconds=seconds)
        found = [row for part, played in measured for row in rows(trained, part, played.returns, judged)]
        arrays = items(trained.env.game, measured)
        keep_evaluation(out, source.config_path.read_text(), identity, status, arrays, found)
        console.print(f"records in {out.path}", markup=False, soft_wrap=True)
    if settings.measures:
        kept = [str(path) for path in source.kept_teachers()]
        teacher = load_teacher(kept, trained.env.game, unfinished=True, device=settings.device) if kept else None
        subject = PolicySubject(PolicyLogits(policy), teacher, trained, judged, settings.most, settings.seed)
        take(kept_in, subject.cells(settings), console)


def _identity(runs: Sequence[Run], weights: Weights) -> Identity | None:
    """That of the run, or of the ensemble of several: a row of its own."""
    identity = runs[0].judged_identity()
    if identity is None or len(runs) == 1:
        return identity
    return dataclasses.replace(
        identity,
        row={"ensemble": [teacher_kind(run, weights) for run in runs], **identity.row},
        teachers=teacher_hashes(runs, weights),
    )


def main() -> None:
    """Entry point of ``kdrl-evaluate``."""
    run_application("kdrl/evaluate", EvaluateSettings, evaluate)


if __name__ == "__main__":
    main()
