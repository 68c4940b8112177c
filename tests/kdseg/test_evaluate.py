"""``kdseg-evaluate`` on a run that has the weights its network began with, and the list of its images."""

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image
from rich.console import Console

from benchmarks.programs import configured
from common.configuration import check_settings
from common.errors import InputError
from common.runs.folder import Run
from common.runs.items import item_key
from common.runs.records import Judged, Record
from common.runs.status import Status
from common.runs.weights import save_weights
from kdseg.domains.held_out import write_images
from kdseg.evaluate import evaluate
from kdseg.measure import measure
from kdseg.records import rows
from kdseg.settings import EvaluateSettings, TrainSettings
from kdseg.train import SegmentationTraining
from tests.nuclei import SMALL_NETWORK

CPU = torch.device("cpu")


def fill(root: Path, domain: str, names: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in names:
        pixels = rng.integers(0, 256, (32, 48, 3), dtype=np.uint8)
        for kind, array in (("images", pixels), ("masks", (pixels[:, :, 0] > 128).astype(np.uint8))):
            path = root / domain / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


@dataclasses.dataclass
class Trained:
    """A finished run, and the program that would have trained it."""

    root: Path
    run: Run
    program: SegmentationTraining

    def tested(self) -> list[Record]:
        """What its training would have recorded at its end."""
        program, identity = self.program, self.run.identity()
        assert identity is not None
        judged = Judged(7, 1.5, "last", identity.key)
        results = [
            measure(program.module, program.data, part, CPU, program.console) for part in program.data.test_parts
        ]
        return [row for result in results for row in rows(program.settings, program.data, result, "test", judged)]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("kept")
    for seed, domain in enumerate(("day", "night", "dusk")):
        fill(folder / "data", domain, "abcde", seed)
    config = configured(
        "kdseg",
        *("data=folder", f"data.root={folder / 'data'}", "data.target=dusk", "data.validation_fraction=0.4"),
        *("data.crop_size=16", *SMALL_NETWORK, "trainer.accelerator=cpu"),
        *("trainer.max_steps=7", "evaluation.every=0", f"run_dir={folder / 'run'}"),
    )
    settings = check_settings(OmegaConf.to_container(config, resolve=True), TrainSettings)
    program = SegmentationTraining(settings, Console(quiet=True))
    run = Run(folder / "run")
    run.begin(program.config_yaml(), program.identity(), 7)
    save_weights(program.module.network, run)
    write_images(run, program.data.images())
    run.set_status(Status("finished", 7, 7, 1.5))
    return Trained(folder / "data", run, program)


@pytest.fixture
def trained(kept: Trained, tmp_path: Path) -> Trained:
    """A copy that a test may change; its configuration names the copy's data."""
    shutil.copytree(kept.root, tmp_path / "data")
    shutil.copytree(kept.run.path, tmp_path / "run")
    run = Run(tmp_path / "run")
    run.config_path.write_text(run.config_path.read_text().replace(str(kept.root), str(tmp_path / "data")))
    return Trained(tmp_path / "data", run, kept.program)


def call(run: Run, **options: Any) -> Run:
    out = run.path.with_name("out")
    settings = {"weights": "auto", "out": str(out), "target": None, "root": None, "device": "cpu"}
    evaluate(EvaluateSettings(run=str(run.path), **(settings | options)))
    return Run(out)


def judged_on(out: Run) -> dict[tuple[str, bool], int]:
    return {(row.domain, row.seen): row.n for row in out.records()}


def test_the_same_run_on_the_same_data_is_the_same(trained: Trained) -> None:
    out = call(trained.run)
    assert out.records() == trained.tested()
    assert out.identity() == trained.run.identity()
    assert out.status() == Status("finished", 7, 7, 1.5)
    assert yaml.safe_load(out.config_path.read_text()) == yaml.safe_load(trained.run.config_path.read_text())
    listed = trained.program.data.images()
    items = out.items()
    for domain, seen in judged_on(out):
        assert items[item_key("item", domain, seen)].tolist() == sorted(listed[domain].test)


def test_what_a_folder_has_gained_since_changes_no_score_of_a_source(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(trained.root, "night", "0123456789", 8)  # another split, were it chosen again
    out = call(trained.run)
    assert out.records() == trained.tested()
    assert "night: 10 images are passed over that the run neither trained on nor held out\n" in capsys.readouterr().out


def test_a_source_as_target_is_seen(trained: Trained) -> None:
    out = call(trained.run, target="night")
    assert judged_on(out) == {("night", True): 2, ("day", True): 2}
    assert {(row.target, *row.source) for row in out.records()} == {("night", "day", "night")}
    before = {(row.domain, row.metric): row.value for row in trained.tested()}
    assert [row.value for row in out.records()] == [before[row.domain, row.metric] for row in out.records()]
    ours, theirs = out.identity(), trained.run.identity()
    assert ours is not None and theirs is not None
    changed = [line.split("=")[0] for line in ours.differences(theirs)]
    assert sorted(changed) == ["domains.files.dusk", "domains.target"]
    assert {row.identity for row in out.records()} == {ours.key} != {theirs.key}
    assert yaml.safe_load(out.config_path.read_text())["data"]["target"] == "night"


def test_another_root_with_the_new_domain_alone(
    trained: Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = tmp_path / "new"
    fill(new, "dawn", "vwxyz", 11)
    stolen = min(trained.program.data.images()["day"].train)
    for kind in ("images", "masks"):
        shutil.copy(trained.root / "day" / kind / f"{stolen}.png", new / "dawn" / kind / "u.png")
    shutil.rmtree(trained.root)
    out = call(trained.run, target="dawn", root=str(new))
    assert judged_on(out) == {("dawn", False): 5}
    assert out.items()[item_key("item", "dawn", False)].tolist() == list("vwxyz")
    printed = capsys.readouterr().out
    assert "dawn: 1 of 6 images are left out, since the run was trained on them\n" in printed
    assert f"day: not in {new}, so its 2 held-out images are passed over\n" in printed
    config = yaml.safe_load(out.config_path.read_text())
    assert (config["data"]["root"], config["data"]["target"]) == (str(new), "dawn")


def test_images_that_were_all_trained_on_are_refused(trained: Trained, tmp_path: Path) -> None:
    for name in trained.program.data.images()["day"].train:
        for kind in ("images", "masks"):
            path = tmp_path / "new" / "dawn" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(trained.root / "day" / kind / f"{name}.png", path)
    with pytest.raises(InputError, match="target='dawn' leaves nothing to judge on"):
        call(trained.run, target="dawn", root=str(tmp_path / "new"))
    assert not (tmp_path / "out").exists()


def test_a_run_of_before_there_were_lists(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    run = trained.run
    run.append([dataclasses.replace(row, identity="") for row in trained.tested()])
    for path in (run.images_path, run.identity_path, run.status_path):
        path.unlink()
    out = call(run)
    # Its temperature was never fitted.
    found = [row for row in out.records() if not row.metric.endswith("_scaled") and row.metric != "temperature"]
    assert found == run.records()
    assert not out.identity_path.exists() and out.finished
    assert "whether it was trained on some of these cannot be checked" in capsys.readouterr().out
    with pytest.raises(InputError, match="target='night' is among the sources"):
        call(run, target="night", out=None)


def test_a_run_without_a_list_has_an_identity_all_the_same(trained: Trained) -> None:
    trained.run.images_path.unlink()
    assert call(trained.run).identity() == trained.run.identity()


def test_an_interrupted_run_is_judged_if_asked_for_and_no_run_to_compare(trained: Trained) -> None:
    trained.run.set_status(Status("training", 3, 7, 0.5))
    with pytest.raises(InputError, match=r"is not finished \(training, 3 of 7 steps\).*unfinished=true"):
        call(trained.run)
    out = call(trained.run, unfinished=True)
    ours, theirs = out.identity(), trained.run.identity()
    assert ours is not None and theirs is not None
    assert ours.differences(theirs) == ["setting.unfinished_at=absent (there: 3)"]
    assert ours.setting_key != theirs.setting_key
    assert {(row.steps, row.seconds, row.identity) for row in out.records()} == {(3, 0.5, ours.key)}


def test_a_run_that_went_on_inexactly_stays_one(trained: Trained) -> None:
    trained.run.set_status(Status("finished", 7, 7, 1.5, "inexact"))
    out = call(trained.run)
    assert {row.resumed for row in out.records()} == {"inexact"}
    assert out.status() == trained.run.status()


def test_a_folder_that_holds_something_is_not_written_to(trained: Trained, tmp_path: Path) -> None:
    call(trained.run)
    with pytest.raises(InputError, match="already holds a finished run"):
        call(trained.run)
    interrupted = Run(tmp_path / "interrupted")
    interrupted.begin("task: seg\n", None, 5)
    with pytest.raises(InputError, match=r"interrupted holds an interrupted run.*choose another out"):
        call(trained.run, out=str(interrupted.path))
    assert interrupted.config_path.read_text() == "task: seg\n"


def test_names_are_no_markup(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    fill(trained.root, "[old]", "ab", 3)
    call(trained.run, target="[old]", out=None)
    assert capsys.readouterr().out.count("[old]") == 2
