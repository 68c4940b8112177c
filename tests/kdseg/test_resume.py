"""A segmentation training in mid-course, through a file and back, with every method: the same bits at the end."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console

from benchmarks.programs import configured
from common.configuration import check_settings
from common.runs.folder import Run
from common.runs.interruption import Interruption
from common.runs.keeper import Keeper
from common.runs.status import Status
from kdseg.settings import TrainSettings
from kdseg.train import SegmentationTraining, train
from tests.kdrl.test_resume import averaged, differences
from tests.nuclei import SMALL_NETWORK
from tests.test_augkd import SMALL
from tests.test_every_method import METHODS, REFUSED, keeps_state

# Lightning 2.6 uses what torch 2.11 and later call deprecated; the programs silence its notes.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*LeafSpec.* is deprecated:FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning:pytorch_lightning"),
]
# What stands for all methods whose terms keep nothing, or has its state elsewhere: an artefact, folds, a driver.
STANDING = ("erm", "kddg_sdd", "augkd", "cross_fitted", "iter")
SERVED = [name for name in METHODS if name not in REFUSED["segmentation"] and (name in STANDING or keeps_state(name))]
OTHERWISE = [
    ["+trainer.accumulate_grad_batches=2", "method=dps", "checkpoint_every=3"],
    ["data.num_workers=2", "data.balanced=false", "method=beta_smoothing"],
    # A validation after the last step, and a pass that ends with the state.
    ["method=dlb", "evaluation.every=4", "trainer.max_steps=8", "checkpoint_every=6"],
    [
        *("optimizer._target_=torch.optim.SGD", "+optimizer.momentum=0.9", "channels_last=false"),
        *("learning_rate.shape=one_cycle", "learning_rate.encoder=0.5"),
    ],
    ["checkpoint_every=3", "method=ps_kd"],
    ["trainer.precision=bf16-mixed", "method=kddg_sdd", "teacher_view=clean"],
]
# Nine images in batches of four: a pass is three steps long, and the state is that in the middle of the second.
STEPS, SAVED = 6, 4


def settings(tmp_path: Path, data: Path, *overrides: str) -> TrainSettings:
    common = [
        *("data=nuclei", f"data.root={data}", "data.target=fluorescence", "data.sources=[purple_on_white]"),
        *("data.batch_size=4", "data.crop_size=32", *SMALL_NETWORK, f"trainer.max_steps={STEPS}"),
        *("trainer.accelerator=cpu", "evaluation.every=3", f"checkpoint_every={SAVED}"),
        f"run_dir={tmp_path / 'run'}",
    ]
    config = configured("kdseg", *common, *overrides)
    return check_settings(OmegaConf.to_container(config, resolve=True), TrainSettings)


@pytest.fixture(scope="module")
def teacher(small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for methods that ask one, and two, each without its fold, for those that ask several."""
    folders = [tmp_path_factory.mktemp("teacher") for _ in range(2)]
    for seed, folder in enumerate(folders):
        train(
            settings(
                folder,
                small_nuclei,
                f"seed={7 + seed}",
                f"data.fold=[{seed},2]",
                "trainer.max_steps=2",
                "evaluation.every=0",
            )
        )
    return ",".join(str(folder / "run") for folder in folders)


def keeper(made: TrainSettings, folder: Path) -> Keeper:
    run = Run(folder)
    run.path.mkdir(exist_ok=True)
    return Keeper(run, made.checkpoint_every, Interruption(), "", Status("training", of=STEPS))


def fit(made: TrainSettings, keeps: Keeper) -> SegmentationTraining:
    program = SegmentationTraining(made, Console(quiet=True))
    program.prepare(keeps)
    assert program.fit(keeps) == program.steps
    return program


def states(program: SegmentationTraining) -> Iterator[tuple[str, Any]]:
    """Whatever a training has become."""
    yield "module", dict(program.module.state_dict())
    yield "tally", program.module.distillation.tally.state()
    yield "optimizer", program.trainer.optimizers[0].state_dict()
    yield "generators", [torch.rand(2), torch.as_tensor(np.random.rand(2)), random.random()]  # noqa: NPY002


@pytest.mark.parametrize(
    "overrides",
    [
        *([f"method={name}", *(SMALL if name == "augkd" else ())] for name in SERVED),
        *averaged(OTHERWISE),
    ],
    ids=" ".join,
)
def test_what_goes_on_from_a_state_ends_the_same(
    overrides: list[str], teacher: str, small_nuclei: Path, tmp_path: Path
) -> None:
    made = settings(tmp_path, small_nuclei, f"teacher=[{teacher}]", "seed=3", *overrides)
    whole = fit(made, first := keeper(made, tmp_path / "run"))
    expected = dict(states(whole))
    records = first.run.records()
    torch.manual_seed(77)
    second = keeper(made, tmp_path / "run")
    (note,) = second.go_on()
    assert second.players is not None
    steps = second.players["position"]["steps"]
    assert note == f"it goes on from step {steps}" and 0 < steps < whole.steps
    assert len(second.run.records()) <= len(records)
    resumed = fit(made, second)
    assert [line for name, state in states(resumed) for line in differences(expected[name], state, name)] == []
    ours = [(row.steps, row.domain, row.metric, row.selection, row.value) for row in second.run.records()]
    assert ours == [(row.steps, row.domain, row.metric, row.selection, row.value) for row in records]
