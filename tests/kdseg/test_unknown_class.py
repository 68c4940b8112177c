"""A class that is kept from training and scores, and detected afterwards."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.errors import InputError
from common.runs.folder import Run
from kdseg import FolderData
from kdseg.domains.sample import IGNORE
from kdseg.evaluate import main as evaluate
from kdseg.train import main as train
from tests.nuclei import SMALL_NETWORK

NAMES = ["ground", "tree", "car"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("domains")
    rng = np.random.default_rng(0)
    for shade, domain in enumerate(("day", "dusk", "night")):
        for kind in ("images", "masks"):
            (folder / domain / kind).mkdir(parents=True)
        for number in range(5):
            mask = np.zeros((48, 40), np.uint8)
            mask[8:24, 4:20] = 1
            mask[20:40, 22 : 30 + number] = 2
            mask[:2] = IGNORE
            colours = np.array([[60, 60, 60], [40, 160, 40], [220, 40, 200]]) - 15 * shade
            image = colours[np.where(mask == IGNORE, 0, mask)] + rng.normal(0, 8, (48, 40, 3))
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / domain / "images" / f"{number}.png")
            Image.fromarray(mask).save(folder / domain / "masks" / f"{number}.png")
    return folder


@pytest.mark.parametrize("unknown", NAMES)
def test_it_is_ignored_wherever_it_is_and_known_only_to_who_asks(root: Path, unknown: str) -> None:
    whole = FolderData(root, "night", class_names=NAMES, crop_size=None)
    data = FolderData(root, "night", class_names=NAMES, crop_size=None, unknown_class=unknown)
    index = NAMES.index(unknown)
    assert data.class_names == [name for name in NAMES if name != unknown]
    assert data.num_classes == 2
    for ours, theirs in zip(data.test_parts, whole.test_parts, strict=True):
        for position in range(len(ours.dataset)):
            before = theirs.dataset.sample(position).mask
            expected = before.copy()
            expected[before == index] = IGNORE
            expected[(before > index) & (before != IGNORE)] -= 1
            assert np.array_equal(ours.dataset.sample(position).mask, expected)
            assert np.array_equal(ours.dataset[position]["mask"].numpy(), expected)
            assert np.array_equal(ours.dataset.unknown(position), before == index)
    trained = np.concatenate([batch["mask"].numpy().ravel() for batch in data.train_dataloader()])
    assert set(np.unique(trained)) == {0, 1, IGNORE}


@pytest.mark.parametrize(
    ("names", "unknown", "told"),
    [
        (NAMES, "dog", "unknown_class='dog' is no class; use one of: ground, tree, car"),
        (["ground", "tree"], "tree", "unknown_class='tree' leaves one class of ground, tree; there must be two"),
    ],
)
def test_what_cannot_be_unknown_is_refused(
    root: Path, tmp_path: Path, names: list[str], unknown: str, told: str
) -> None:
    if len(names) == 2:
        for domain in ("day", "night"):
            for kind in ("images", "masks"):
                (tmp_path / domain / kind).mkdir(parents=True)
            mask = np.zeros((16, 16), np.uint8)
            mask[4:] = 1
            for name in "ab":
                Image.fromarray(mask).save(tmp_path / domain / "masks" / f"{name}.png")
                Image.fromarray(100 * mask).save(tmp_path / domain / "images" / f"{name}.png")
        root = tmp_path
    with pytest.raises(InputError, match=told):
        FolderData(root, "night", class_names=names, crop_size=None, unknown_class=unknown)


def test_it_is_detected_pixel_by_pixel(root: Path, tmp_path: Path, call: Any) -> None:
    settings = (
        *("data=folder", f"data.root={root}", "data.target=night", "data.class_names=[ground,tree,car]"),
        *("data.batch_size=4", "data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=8"),
        *("trainer.accelerator=cpu", "evaluation.every=0", "data.unknown_class=car"),
    )
    outcome = call(train, *settings, f"run_dir={tmp_path / 'run'}")
    assert (outcome.status, outcome.err) == (0, "")
    run = Run(tmp_path / "run")
    assert run.items()["class_names"].tolist() == ["ground", "tree"]
    outcome = call(evaluate, f"run={run.path}", "device=cpu", "measures=[unknown]")
    assert (outcome.status, outcome.err) == (0, "")
    rows = [row for row in run.measures() if row.condition == "unknown/pixels"]
    assert {(row.domain, row.seen) for row in rows} == {("night", False), ("day", True), ("dusk", True)}
    names = {row.metric for row in rows}
    for score in ("max_softmax", "entropy", "energy", "odin"):
        for metric in ("auroc", "ap", "fpr95", "auroc_per_image"):
            assert f"{metric}/{score}" in names
    assert all(0 <= row.value <= 1 for row in rows)


def test_a_run_without_is_of_the_setting_that_it_always_was(root: Path, tmp_path: Path, call: Any) -> None:
    settings = (
        *("data=folder", f"data.root={root}", "data.target=night", "data.class_names=[ground,tree,car]"),
        *("data.batch_size=4", "data.crop_size=32", *SMALL_NETWORK, "trainer.max_steps=1"),
        *("trainer.accelerator=cpu", "evaluation.every=0", f"run_dir={tmp_path / 'run'}"),
    )
    assert call(train, *settings).status == 0
    identity = Run(tmp_path / "run").identity()
    assert identity is not None
    assert "unknown_class" not in identity.setting["data"]
