"""Two processes on a CPU train what one does with the same batches."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.runs.folder import Run
from common.terms import DPS
from kdseg.domains.draws import TrainingBatches, TrainingDraws, check_shares
from kdseg.train import main as train
from kdseg.trainer import _shared
from tests.kdseg import two_processes
from tests.nuclei import SMALL_NETWORK

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


@pytest.fixture(scope="module")
def unevenly_labelled(small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The nuclei, of which every image has another share of ignored pixels: so has every process."""
    root = tmp_path_factory.mktemp("uneven")
    for number, path in enumerate(sorted(small_nuclei.glob("*/*/*.png"))):
        pixels = np.array(Image.open(path))[:32, :32]
        if path.parent.name == "masks":
            pixels[: number % 30] = 255
        copy = root / path.relative_to(small_nuclei)
        copy.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(copy)
    return root


def trained(count: int, method: str, root: Path, out: Path) -> Any:
    if count == 1:
        two_processes.main("1", method, str(root), str(out))
        return torch.load(out, weights_only=False)
    command = [sys.executable, "-m", "tests.kdseg.two_processes", str(count), method, str(root), str(out)]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(out, weights_only=False)


@pytest.mark.parametrize("method", ["kddg", "dlb"])
def test_two_processes_are_as_good_as_one(
    method: str, unevenly_labelled: Path, small_nuclei: Path, tmp_path: Path
) -> None:
    # DLB's loss is a mean over the pixels of the batch before, which is another share of them.
    root = small_nuclei if method == "dlb" else unevenly_labelled
    alone, confusions, [drawn] = trained(1, method, root, tmp_path / "one")
    together, same_confusions, shares = trained(2, method, root, tmp_path / "two")
    assert [first + second for first, second in zip(*shares, strict=True)] == drawn
    assert len(drawn) == 6 and all(len(batch) == 4 for batch in drawn)
    assert alone.keys() == together.keys() and any("averaging" in name for name in alone)
    for name, value in alone.items():
        torch.testing.assert_close(
            together[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert confusions.keys() == same_confusions.keys() and len(confusions) == 6
    for number, confusion in confusions.items():
        assert int(confusion.sum()) == int(same_confusions[number].sum()) > 0
        assert (confusion - same_confusions[number]).abs().sum() <= 0.002 * confusion.sum()


def test_the_program_trains_on_two_devices_and_one_of_them_speaks(small_nuclei: Path, tmp_path: Path) -> None:
    command = [
        *(sys.executable, "-m", "kdseg.train", "data=nuclei", f"data.root={small_nuclei}", "data.target=fluorescence"),
        *("data.batch_size=4", "data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=4"),
        *("trainer.accelerator=cpu", "trainer.devices=2", "evaluation.every=2", "averaging=wakd", "method=sd_dropout"),
        f"run_dir={tmp_path / 'run'}",
    ]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("training sd_dropout into") == done.stdout.count("trained 4 steps") == 1
    assert done.stderr.strip() == ""
    run = Run(tmp_path / "run")
    assert run.finished and json.loads(run.status_path.read_text())["steps"] == 4
    curve = [record for record in run.records() if record.split == "progress" and record.selection == "last"]
    curve = [record for record in curve if record.metric == "miou"]
    assert len(curve) == 8 and len({(record.domain, record.steps) for record in curve}) == 8


def test_the_first_of_two_devices_prepares_augkd_alone(
    call: Callable[..., Any], small_nuclei: Path, tmp_path: Path
) -> None:
    shared = (
        *("data=nuclei", f"data.root={small_nuclei}", "data.target=fluorescence", "data.batch_size=4"),
        *("data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=2", "evaluation.every=0"),
        "trainer.accelerator=cpu",
    )
    prepared = ("latent=4", "width=2", "data_free_rounds=2", "anchor_rounds=2", "batch_size=4")
    assert call(train, *shared, f"run_dir={tmp_path / 'teacher'}").status == 0
    command = [sys.executable, "-m", "kdseg.train", *shared, "method=augkd", f"teacher={tmp_path / 'teacher'}"]
    command += ["trainer.devices=2", f"run_dir={tmp_path / 'run'}"]
    command += [f"method.terms.augkd.preparation.{one}" for one in prepared]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    run = Run(tmp_path / "run")
    assert run.finished
    metrics = [record.metric for record in run.records() if record.split == "progress"]
    assert len(metrics) == len(set(metrics)) and "augkd/data_free/seconds" in metrics
    assert done.stdout.count("the teacher's confidence on the student's domain") == 1


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    draws = TrainingDraws([8], 8, seed=0)
    assert [len(batch) for batch in TrainingBatches(draws, 4)] == [4, 4]
    with pytest.raises(InputError, match=r"data.batch_size=5 is that of all 2 devices, .* use 4"):
        check_shares(5, 2)
    with pytest.raises(
        InputError, match=r"trainer.strategy='fsdp' cannot be used for several devices; use one of: auto"
    ):
        _shared("fsdp")
    assert DPS(memory="samples", samples=3).remembers_samples and not DPS().remembers_samples
