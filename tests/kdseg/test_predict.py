"""``kdseg-predict``: what it writes is what the run's network says of each image, wherever that lies."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from common.errors import InputError
from common.runs.folder import Run
from kdseg.predict import main as predict
from kdseg.predictor import Predictor
from kdseg.restore import load_network
from kdseg.tiles import Tiling
from kdseg.train import main as train

Call = Callable[..., Any]


@pytest.fixture(scope="module")
def runs(call: Call, tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs, one under another normalisation."""
    root = tmp_path_factory.mktemp("runs")
    others = (["seed=0"], ["seed=1", "+data.mean=[0.5,0.5,0.5]", "+data.std=[0.25,0.25,0.25]"])
    for number, more in enumerate(others):
        assert call(train, *tiny, "evaluation.every=0", *more, f"run_dir={root / str(number)}").status == 0
    return [root / "0", root / "1"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    root = tmp_path / "images"
    (root / "inner" / "most").mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(root / "a.png")
    Image.fromarray(rng.integers(0, 256, (33, 47), dtype=np.uint8)).save(root / "inner" / "b.tif")
    Image.fromarray(rng.integers(0, 65536, (40, 40), dtype=np.uint16)).save(root / "inner" / "most" / "c.png")
    return root


@torch.no_grad()
def answers(run: Path, image: np.ndarray, mean: float | list[float], std: float | list[float]) -> np.ndarray:
    network, _ = load_network(Run(run))
    pixels = (image.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
    probabilities: np.ndarray = network(torch.as_tensor(pixels.transpose(2, 0, 1)[None])).softmax(1)[0].numpy()
    return probabilities


def test_masks_are_what_the_network_says(call: Call, runs: list[Path], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = call(predict, f"run={runs[1]}", f"images={images}", f"out={out}", "confidence=true", "device=cpu")
    assert done.status == 0 and "3 images: masks in" in done.out
    places = ["a.png", "inner/b.png", "inner/most/c.png"]
    for kind in ("masks", "overlays", "confidence"):
        found = [str(path.relative_to(out / kind)) for path in sorted((out / kind).rglob("*.*"))]
        assert found == places
    image = np.asarray(Image.open(images / "a.png"))
    expected = answers(runs[1], image, 0.5, 0.25)
    mask = Image.open(out / "masks" / "a.png")
    assert mask.mode == "P"
    assert np.mean(np.asarray(mask) == expected.argmax(0)) > 0.999  # but where two classes are as likely
    sure = np.asarray(Image.open(out / "confidence" / "a.png"), np.float64) / 255
    np.testing.assert_allclose(sure, expected.max(0), atol=0.003)
    over = np.asarray(Image.open(out / "overlays" / "a.png"), np.float64)
    colours = np.array(mask.getpalette()[: 3 * len(expected)]).reshape(-1, 3)
    np.testing.assert_allclose(over, (image + colours[np.asarray(mask)]) / 2, atol=1)
    with (out / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row.pop("image") for row in rows] == ["a.png", "inner/b.tif", "inner/most/c.png"]
    shares = np.array([[float(share) for share in row.values()] for row in rows])
    np.testing.assert_allclose(shares.sum(1), 1, atol=1e-5)
    assert shares[0, 1] == pytest.approx(np.mean(np.asarray(mask) == 1), abs=1e-5)


def test_several_runs_are_their_mixture_each_under_its_own_normalisation(runs: list[Path]) -> None:
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    usual = answers(runs[0], image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    expected = (usual + answers(runs[1], image, 0.5, 0.25)) / 2
    np.testing.assert_allclose(Predictor.of_runs(runs, device="cpu")(image), expected, atol=1e-5)
    mirrored = Predictor.of_runs(runs[:1], flips=True, device="cpu")
    np.testing.assert_allclose(mirrored(image[:, ::-1]), mirrored(image)[:, :, ::-1], atol=1e-5)
    tiled = Predictor.of_runs(runs[:1], tiling=Tiling(16), device="cpu")(image)
    assert tiled.shape == usual.shape and not np.allclose(tiled, usual)
    np.testing.assert_allclose(tiled.sum(0), 1, atol=1e-5)


def test_broken_images_are_named_and_the_rest_is_done_later(
    call: Call, runs: list[Path], images: Path, tmp_path: Path
) -> None:
    whole = (images / "a.png").read_bytes()
    (images / "d.png").write_bytes(whole[:-100])
    (images / "notes.txt").write_text("no image")
    (images / "inner" / ".hidden.png").write_bytes(whole)
    out = tmp_path / "out"
    arguments = [f"run={runs[0]}", f"images={images}", f"out={out}", "device=cpu", "overlays=false"]
    done = call(predict, *arguments)
    assert done.status == 0
    assert f"skipped: {images / 'd.png'} cannot be read" in done.out and "3 of 4 images" in done.out
    first = {path: path.stat().st_mtime_ns for path in (out / "masks").rglob("*.png")}
    table = (out / "predictions.csv").read_text()
    (images / "d.png").write_bytes(whole)
    done = call(predict, *arguments)
    assert done.status == 0 and "4 images" in done.out
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert set(table.splitlines()) < set((out / "predictions.csv").read_text().splitlines())
    assert (out / "masks" / "d.png").read_bytes() == (out / "masks" / "a.png").read_bytes()
    other = call(predict, *arguments, "flips=true")
    assert other.status == 2 and "made in another way" in other.err


def test_names_that_differ_in_their_suffix_alone_stay_apart(
    call: Call, runs: list[Path], images: Path, tmp_path: Path
) -> None:
    shutil.copy(images / "inner" / "b.tif", images / "a.tif")
    done = call(predict, f"run={runs[0]}", f"images={images}", f"out={tmp_path / 'out'}", "device=cpu")
    assert done.status == 0
    masks = {path.name: np.asarray(Image.open(path)).shape for path in (tmp_path / "out" / "masks").glob("*.png")}
    assert masks == {"a.png.png": (40, 56), "a.tif.png": (33, 47)}


def test_a_single_image(call: Call, runs: list[Path], images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert call(predict, f"run={runs[0]}", f"images={images / 'a.png'}", f"out={out}", "device=cpu").status == 0
    assert [path.name for path in (out / "masks").iterdir()] == ["a.png"]
    assert json.loads((out / "predict.json").read_text())["classes"] == ["background", "nucleus"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["images=nowhere"], "images=nowhere does not exist"),
        (["images={empty}"], "holds no image"),
        (["images={broken}"], "none of 1 can be used"),
        (["run=nowhere"], "nowhere"),
        (["out={images}"], "is no folder of predictions"),
        (["tile=8"], "tile=8 must be in [32, 65536]"),
        (["overlap=0.9"], "overlap=0.9 must be in [0, 0.75]"),
        (["value_range=[4,1]"], "value_range=[4.0, 1.0] must be"),
        (["weights=best"], "weights"),
    ],
)
def test_a_mistake_is_one_line(
    call: Call, runs: list[Path], images: Path, tmp_path: Path, more: list[str], said: str
) -> None:
    places = {"images": images, "empty": tmp_path / "empty", "broken": tmp_path / "broken"}
    places["empty"].mkdir()
    places["broken"].mkdir()
    (places["broken"] / "a.png").write_bytes(b"no picture")
    given = {"run": f"run={runs[0]}", "images": f"images={images}", "out": f"out={tmp_path / 'out'}"}
    given |= {one.split("=")[0]: one.format(**places) for one in more}
    done = call(predict, *given.values(), "device=cpu")
    assert done.status == 2
    assert done.err.startswith("error: ") and len(done.err.splitlines()) == 1 and said in done.err
    assert not (tmp_path / "out" / "masks").exists()


def test_runs_of_other_classes_are_no_ensemble(runs: list[Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("- nucleus", "- cell"))
    with pytest.raises(InputError, match="has the classes"):
        Predictor.of_runs([runs[0], other])
