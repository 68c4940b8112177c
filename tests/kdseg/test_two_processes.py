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


@pytest.fixture(scope="module")
def together(unevenly_labelled: Path, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes trained, method by method."""
    out = tmp_path_factory.mktemp("together")
    # DLB's loss is a mean over the pixels of the batch before, which is another share of them.
    asked = ["kddg", str(unevenly_labelled), "dlb", str(small_nuclei)]
    command = [sys.executable, "-m", "tests.kdseg.two_processes", "2", str(out), *asked]
    done = subprocess.run(command, env=ENVIRONMENT, cwd=REPOSITORY, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    return out


@pytest.mark.parametrize("method", ["kddg", "dlb"])
def test_two_processes_are_as_good_as_one(
    method: str, together: Path, unevenly_labelled: Path, small_nuclei: Path, tmp_path: Path
) -> None:
    root = small_nuclei if method == "dlb" else unevenly_labelled
    two_processes.main("1", str(tmp_path), method, str(root))
    alone, confusions, [drawn] = torch.load(tmp_path / method, weights_only=False)
    shared, same_confusions, shares = torch.load(together / method, weights_only=False)
    assert [first + second for first, second in zip(*shares, strict=True)] == drawn
    assert len(drawn) == 6 and all(len(batch) == 4 for batch in drawn)
    assert alone.keys() == shared.keys() and any("averaging" in name for name in alone)
    for name, value in alone.items():
        torch.testing.assert_close(
            shared[name], value, rtol=1e-4, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    assert confusions.keys() == same_confusions.keys() and len(confusions) == 6
    for number, confusion in confusions.items():
        assert int(confusion.sum()) == int(same_confusions[number].sum()) > 0
        assert (confusion - same_confusions[number]).abs().sum() <= 0.002 * confusion.sum()


def test_the_program_trains_on_two_devices_of_which_the_first_speaks_and_prepares(
    call: Callable[..., Any], small_nuclei: Path, tmp_path: Path
) -> None:
    shared = (
        *("data=nuclei", f"data.root={small_nuclei}", "data.target=fluorescence", "data.batch_size=4"),
        *("data.crop_size=32", *SMALL_NETWORK, "trainer.accelerator=cpu"),
    )
    alone = ("trainer.max_steps=2", "evaluation.every=0", f"run_dir={tmp_path / 'teacher'}")
    assert call(train, *shared, *alone).status == 0
    command = [sys.executable, "-m", "kdseg.train", *shared, "trainer.max_steps=4", "evaluation.every=2"]
    command += ["trainer.devices=2", "averaging=wakd", "method=augkd", f"teacher={tmp_path / 'teacher'}"]
    prepared = ("latent=4", "width=2", "data_free_rounds=2", "anchor_rounds=2", "batch_size=4")
    command += [f"method.terms.augkd.preparation.{one}" for one in prepared]
    place = tmp_path / "place"
    place.mkdir()
    done = subprocess.run(
        [*command, "run_dir=run"], env=ENVIRONMENT, cwd=place, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("training augkd into") == done.stdout.count("trained 4 steps") == 1
    assert done.stdout.count("the teacher's confidence on the student's domain") == 1
    assert done.stderr.strip() == ""
    assert [path.name for path in place.iterdir()] == ["run"]
    run = Run(place / "run")
    assert run.finished and json.loads(run.status_path.read_text())["steps"] == 4
    along = [record for record in run.records() if record.split == "progress" and record.selection == "last"]
    assert "augkd/data_free/seconds" in {record.metric for record in along}
    places = [(record.metric, record.domain, record.seen, record.steps) for record in along]
    assert len(places) == len(set(places))
    assert sum(record.metric == "miou" for record in along) == 8


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
