"""A policy's training in mid-course, through a file and back, with every method: the same bits at the end."""

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from stable_baselines3.common.logger import configure

from benchmarks.programs import configured
from common.configuration import check_settings
from common.runs.folder import Run
from common.runs.interruption import Interruption
from common.runs.keeper import Keeper
from common.runs.status import Status
from kdrl.callbacks import LearningCurve, LevelValidation
from kdrl.ppo import DistilledPPO
from kdrl.resume import StateKeeping, restore
from kdrl.settings import TrainSettings
from kdrl.train import PolicyTraining
from tests.policies import SMALL_POLICY
from tests.test_augkd import SMALL
from tests.test_every_method import AVERAGERS, METHODS, REFUSED, keeps_state

# Four rollouts; the state is that after two.
ROLLOUT, STEPS = 64, 256
# What stands for all methods whose terms keep nothing, or has its state elsewhere: an artefact, folds, a driver.
STANDING = ("erm", "kddg_sdd", "augkd", "cross_fitted", "iter")
SERVED = [name for name in METHODS if name not in REFUSED["policy"] and (name in STANDING or keeps_state(name))]
OTHERWISE = [
    ["driver=mixed", "method=kd"],
    ["driver=teacher", "method=kd"],
    ["normalize_reward=false", "method=sd_dropout"],
    ["env.look=plain", "env.difficulty=hard"],
]


def averaged(others: list[list[str]]) -> list[list[str]]:
    """Settings with an average each, and every average with one of them; the fewer come again."""
    count = max(len(others), len(AVERAGERS))
    pairs = zip(itertools.cycle(AVERAGERS), itertools.cycle(others), strict=False)
    return [[f"averaging={name}", *other] for name, other in itertools.islice(pairs, count)]


def settings(tmp_path: Path, *overrides: str) -> TrainSettings:
    common = [
        *(*SMALL_POLICY, f"total_timesteps={STEPS}", "ppo.n_epochs=2", "evaluation.every=64"),
        *("evaluation.progress_episodes=1", f"run_dir={tmp_path / 'run'}", f"checkpoint_every={2 * ROLLOUT}"),
    ]
    config = configured("kdrl", *common, *overrides)
    return check_settings(OmegaConf.to_container(config, resolve=True), TrainSettings)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from kdrl.train import train

    folder = tmp_path_factory.mktemp("teacher")
    made = settings(folder, "seed=9", "evaluation.every=0")
    train(made)
    return folder / "run"


def keeper(made: TrainSettings, folder: Path) -> Keeper:
    run = Run(folder)
    run.path.mkdir(exist_ok=True)
    return Keeper(run, made.checkpoint_every, Interruption(), "", Status("training", of=STEPS))


def learn(made: TrainSettings, keeps: Keeper, until: int = STEPS) -> DistilledPPO:
    """Train to the end, or go on where the keeper stands."""
    program = PolicyTraining(made, Console(quiet=True))
    model = program.model
    model.set_logger(configure(None, []))
    seen, validation, unseen = made.env.parts([])
    curve, judge = LearningCurve(made, seen, unseen, keeps, program.row), LevelValidation(made, validation, keeps)
    saving = StateKeeping(keeps, [curve, judge])
    program.prepare(keeps)
    if keeps.players is not None:
        assert restore(model, saving.evaluations, keeps.players)
        keeps.restore_generators()
    model.learn(until - model.num_timesteps, [curve, judge, saving], reset_num_timesteps=keeps.players is None)
    program.close()
    return model


def states(model: DistilledPPO) -> Iterator[tuple[str, Any]]:
    """Whatever a training has become."""
    yield "policy", model.policy.state_dict()
    yield "optimizer", model.policy.optimizer.state_dict()
    if model.distillation is not None:
        yield "distillation", model.distillation.state_dict()
        yield "tally", model.distillation.tally.state()
    if model.averaging is not None:
        yield "averaging", model.averaging.state_dict()
    yield "episodes", [[episode["r"], episode["l"]] for episode in model.ep_info_buffer or []]
    yield "observations", torch.as_tensor(np.ascontiguousarray(model._last_obs))  # type: ignore[arg-type]
    yield "generators", [torch.rand(2), torch.as_tensor(np.random.rand(2)), random.random()]  # noqa: NPY002


def differences(ours: Any, theirs: Any, place: str) -> Iterator[str]:
    if isinstance(ours, torch.Tensor):
        if not torch.equal(ours, theirs):
            yield place
    elif isinstance(ours, dict):
        assert ours.keys() == theirs.keys()
        for key in ours:
            yield from differences(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs)
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            yield from differences(*pair, f"{place}.{number}")
    elif ours != theirs:
        yield place


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"method={name}", *(SMALL if name == "augkd" else ())] for name in SERVED),
        *averaged(OTHERWISE),
    ],
    ids=" ".join,
)
def test_what_goes_on_from_a_state_ends_the_same(overrides: list[str], teacher: Path, tmp_path: Path) -> None:
    made = settings(tmp_path, *overrides, f"teacher={teacher}", "seed=3")
    whole = learn(made, first := keeper(made, tmp_path / "run"))
    expected = dict(states(whole))
    records = first.run.records()
    # Another process, which has drawn other numbers.
    torch.manual_seed(77)
    second = keeper(made, tmp_path / "run")
    notes = second.go_on()
    # The state at the last checkpoint, two rollouts before the end, and the records up to there.
    assert notes == [f"it goes on from step {2 * ROLLOUT}"]
    assert 0 < len(second.run.records()) < len(records)
    resumed = learn(made, second)
    assert [line for name, state in states(resumed) for line in differences(expected[name], state, name)] == []
    ours = [(row.steps, row.domain, row.seen, row.metric, row.selection, row.value) for row in second.run.records()]
    assert ours == [(row.steps, row.domain, row.seen, row.metric, row.selection, row.value) for row in records]
    # The state was that of a training on its way.
    assert not torch.equal(
        second.players["policy"]["action_net.weight"],  # type: ignore[index]
        expected["policy"]["action_net.weight"],
    )
