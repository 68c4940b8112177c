"""Returns of a policy on levels and looks it may not have seen: kdrl-evaluate."""

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from common.application import run as run_application
from common.errors import choice
from common.procgen import LOOKS, LevelSet
from common.procgen.constants import normalized_return
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.items import item_key
from common.runs.records import Judged, Record, Split, library_versions
from common.runs.row import teacher_hashes, teacher_kind
from common.runs.weights import LAST, Weights, choose_weights
from kdrl.env import ProcgenVecEnv
from kdrl.networks import PolicyLogits
from kdrl.settings import EnvSettings, EvaluateSettings, TrainSettings

VALIDATION_LEVELS = 1000
FRAMES_KEPT = 12


@dataclasses.dataclass(frozen=True)
class Condition:
    """Where a policy is tested: a look and a set of levels."""

    look: str
    levels: LevelSet
    seen: bool
    split: Split = "test"

    def domain(self, game: str) -> str:
        """Name in records: game and look."""
        return f"{game}/{self.look}"


@dataclasses.dataclass
class Episodes:
    """Finished episodes: undiscounted returns ``[N]``, their levels ``[N]`` and a few frames ``[K, 64, 64, 3]``."""

    returns: NDArray[np.float64]
    levels: NDArray[np.int64]
    frames: NDArray[np.uint8]


def test_conditions(env: EnvSettings, looks: Sequence[str]) -> list[Condition]:
    """Training levels, validation levels and unseen levels in the training look, then unseen levels in other looks.

    Raises:
        InputError: an unknown look.
    """
    for look in looks:
        choice(look, LOOKS, "evaluation.looks")
    others = [look for look in looks if look != env.look]
    validation = LevelSet.validation(env.seen(), count=VALIDATION_LEVELS)
    return [
        Condition(env.look, env.seen(), seen=True),
        Condition(env.look, validation, seen=False, split="validation"),
        *(Condition(look, LevelSet.unseen(), seen=False) for look in (env.look, *others)),
    ]


@torch.no_grad()
def play(policy: nn.Module, env: ProcgenVecEnv, episodes: int, seed: int) -> Episodes:
    """Play whole episodes with sampled actions.

    Every environment contributes the same number of episodes (up to one): taking whichever end first
    would favour short ones.

    Args:
        policy: From observations ``uint8 [N, 3, 64, 64]`` to action logits.
        env: Freshly made, so that it stands at the beginning of its episodes.
        episodes: How many, over all environments.
        seed: Of the sampled actions; the global generators are left alone.
    """
    device = next(policy.parameters()).device
    generator = torch.Generator(device).manual_seed(seed)
    quota = np.full(env.num_envs, episodes // env.num_envs)
    quota[: episodes % env.num_envs] += 1
    observations: NDArray[np.uint8] = env.reset()
    total = np.zeros(env.num_envs)
    actions = np.zeros(env.num_envs, dtype=np.int64)
    returns: list[float] = []
    levels: list[int] = []
    frames: list[NDArray[np.uint8]] = []
    step = 0
    while quota.any():
        if step % 8 == 0 and len(frames) < FRAMES_KEPT:
            # Another environment each time: a strip shows several levels.
            shown = observations[len(frames) % env.num_envs]
            frames.append(np.ascontiguousarray(shown.transpose(1, 2, 0)))
        # Who has played its share only waits for the others.
        active = np.flatnonzero(quota)
        logits = policy(torch.as_tensor(observations[active], device=device))
        drawn = torch.multinomial(logits.softmax(dim=1), 1, generator=generator).squeeze(1)
        actions[active] = drawn.cpu().numpy()
        step_result: Any = env.step(actions)
        observations, rewards, dones, infos = step_result
        total += rewards
        for index in np.flatnonzero(dones):
            if quota[index]:
                quota[index] -= 1
                returns.append(float(total[index]))
                levels.append(int(infos[index]["prev_level_seed"]))
            total[index] = 0.0
        step += 1
    return Episodes(np.array(returns), np.array(levels, dtype=np.int64), np.stack(frames))


def play_condition(policy: nn.Module, env: EnvSettings, condition: Condition, episodes: int, seed: int) -> Episodes:
    """Make the environment of a condition, play, and close it."""
    venv = ProcgenVecEnv(
        env.game,
        num_envs=min(env.num_envs, episodes),
        levels=condition.levels,
        look=condition.look,
        difficulty=env.difficulty,
        seed=seed,
        threads=env.threads,
    )
    try:
        return play(policy, venv, episodes, seed)
    finally:
        venv.close()


def measure(
    policy: nn.Module, settings: TrainSettings, looks: Sequence[str], episodes: int, seed: int
) -> Iterator[tuple[Condition, Episodes]]:
    """Play every test condition of a training configuration, one after the other."""
    for condition in test_conditions(settings.env, looks):
        yield condition, play_condition(policy, settings.env, condition, episodes, seed)


def rows(settings: TrainSettings, condition: Condition, returns: NDArray[np.float64], judged: Judged) -> list[Record]:
    """Records of one condition: mean return and its normalised forms under both published constant sets."""
    env = settings.env
    mean = float(returns.mean())
    values = {"return": mean}
    for name, constants in (("normalized_return", "code"), ("normalized_return_paper", "paper")):
        values[name] = float(normalized_return(env.game, env.difficulty, mean, constants=constants))
    return [score_row(settings, condition, metric, value, len(returns), judged) for metric, value in values.items()]


def score_row(
    settings: TrainSettings, condition: Condition, metric: str, value: float, count: int, judged: Judged
) -> Record:
    """One record of a policy's run, measured on ``count`` items of a condition."""
    env = settings.env
    source = f"{env.game}/{env.look}"
    return Record(
        task="rl",
        method=str(settings.method["name"]),
        seed=settings.seed,
        source=[source],
        target=source,
        domain=condition.domain(env.game),
        seen=condition.seen,
        split=condition.split,
        metric=metric,
        value=value,
        n=count,
        network=settings.network.name,
        versions=library_versions(),
        **dataclasses.asdict(judged),
    )


def items(
    game: str, measured: Sequence[tuple[Condition, Episodes]], selection: str = LAST
) -> dict[str, NDArray[np.generic]]:
    """Arrays for ``items.npz`` of the test conditions."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for condition, episodes in measured:
        if condition.split != "test":
            continue
        for name, array in (("return", episodes.returns), ("level", episodes.levels), ("image", episodes.frames)):
            arrays[item_key(name, condition.domain(game), condition.seen, selection)] = array
    return arrays


def print_returns(
    console: Console, game: str, measured: Sequence[tuple[Condition, Episodes]], selection: str = LAST
) -> None:
    """The table a user sees at the end: mean return and standard error per condition."""
    table = Table(title="Return, sampled actions" + ("" if selection == LAST else f", {selection} weights"))
    for heading in ("domain", "levels", "mean", "standard error", "episodes"):
        table.add_column(heading, justify="left" if heading in ("domain", "levels") else "right")
    for condition, episodes in measured:
        n = len(episodes.returns)
        error = episodes.returns.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
        levels = "validation" if condition.split == "validation" else ("seen" if condition.seen else "unseen")
        table.add_row(condition.domain(game), levels, f"{episodes.returns.mean():.2f}", f"{error:.2f}", str(n))
    console.print(table)


def evaluate(settings: EvaluateSettings) -> None:
    """Play a finished run's policy and print, and with ``out`` record, its returns.

    Several runs are played as one policy, the mean of their probabilities; its steps and seconds are their sums.

    Raises:
        InputError: no finished RL run there, or none with such weights, an unknown look, or an ``out`` that holds
            something.
    """
    from kdrl.restore import load_network, load_teacher

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
    out = None if settings.out is None else Run(settings.out)
    if out is not None:
        out.check_new()
    started = time.perf_counter()
    measured = list(measure(network, trained, settings.looks, settings.episodes, settings.seed))
    console = Console()
    print_returns(console, trained.env.game, measured, selection)
    console.print(f"weights: {selection}")
    console.print(f"{time.perf_counter() - started:.0f} s")
    if out is not None:
        steps, seconds = sum(state.steps for state in states), sum(state.seconds for state in states)
        status = dataclasses.replace(states[0], steps=steps, seconds=seconds)
        identity = _identity([Run(path) for path in paths], settings.weights)
        judged = Judged(steps, seconds, selection, "" if identity is None else identity.key, status.resumed)
        found = [row for condition, played in measured for row in rows(trained, condition, played.returns, judged)]
        arrays = items(trained.env.game, measured)
        out.keep_evaluation(source.config_path.read_text(), identity, status, arrays, found)
        console.print(f"records in {out.path}", markup=False, soft_wrap=True)


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
