"""No value on a command line ends in a traceback, and none that makes no sense is trained with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from common.application import run
from common.method import METHOD_PARTS
from kdrl.settings import TrainSettings as PolicySettings
from kdrl.train import PolicyTraining
from kdseg.configured import DATA_PARTS
from kdseg.settings import TrainSettings as SegmentationSettings
from kdseg.train import SegmentationTraining
from tests.odd_settings import fault, keys_of, odd_arguments, tried

COUNT = 25
POLICY = [
    *("env=starpilot", "env.num_envs=2", "env.threads=0", "total_timesteps=16", "ppo.n_steps=8", "ppo.batch_size=8"),
    *("network.features_dim=8", "evaluation.episodes=1", "evaluation.looks=[themed]", "device=cpu", "run_dir=run"),
]
MORE_POLICY = ["ppo.clip_range_vf", "ppo.target_kl", "ppo.stats_window_size", "ppo.use_sde", "ppo.nothing", "nothing"]
SEGMENTATION = [
    *("data=nuclei", "data.target=fluorescence", "data.batch_size=2", "data.crop_size=32", "trainer.max_steps=1"),
    *("trainer.accelerator=cpu", "evaluation.every=0", "run_dir=run", "network.encoder_weights=null"),
]
MORE_SEGMENTATION = [
    *(
        "trainer.accumulate_grad_batches",
        "trainer.gradient_clip_val",
        "trainer.limit_train_batches",
        "trainer.max_time",
    ),
    *(
        "trainer.limit_val_batches",
        "trainer.deterministic",
        "trainer.num_nodes",
        "trainer.overfit_batches",
        "data.mean",
    ),
    *(
        "optimizer.eps",
        "optimizer.betas",
        "optimizer.amsgrad",
        "network.decoder_channels",
        "trainer.nothing",
        "nothing",
    ),
]


def policy_main(task: Callable[[Any], object]) -> None:
    def build(settings: PolicySettings) -> None:
        PolicyTraining(settings, Console(quiet=True)).close()
        task(settings)

    run("kdrl/train", PolicySettings, build, METHOD_PARTS)


def segmentation_main(task: Callable[[Any], object]) -> None:
    def build(settings: SegmentationSettings) -> None:
        SegmentationTraining(settings, Console(quiet=True))
        task(settings)

    run("kdseg/train", SegmentationSettings, build, {**METHOD_PARTS, **DATA_PARTS})


@pytest.mark.parametrize("task", ["policies", "segmentation"])
def test_no_value_ends_in_a_traceback_or_is_trained_with_though_it_makes_no_sense(
    task: str, small_nuclei: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if task == "policies":
        main, sound, more = policy_main, POLICY, MORE_POLICY
    else:
        main, sound, more = segmentation_main, [*SEGMENTATION, f"data.root={small_nuclei}"], MORE_SEGMENTATION
    keys = keys_of(f"{'kdrl' if task == 'policies' else 'kdseg'}/train", sound)
    rng = np.random.default_rng(31)
    found = []
    assert fault([], tried(main, sound)) is None
    for _ in range(COUNT):
        arguments = odd_arguments(keys, more, rng)
        if wrong := fault(arguments, tried(main, [*sound, *arguments])):
            found.append(f"{' '.join(arguments)}: {wrong}")
    assert found == []
    assert list(tmp_path.iterdir()) == []
