"""Images of other bands than red, green and blue: through every program, from the file to ONNX."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

import kdseg.check
import kdseg.evaluate
import kdseg.export
import kdseg.predict
import kdseg.train
from common.errors import InputError
from common.onnx import Session
from common.runs.folder import Run
from kdseg.domains.dataset import IMAGENET_MEAN, IMAGENET_STD, Loading
from kdseg.domains.folder import FolderData
from kdseg.domains.images import read_image
from kdseg.domains.masks import read_mask
from kdseg.domains.presets import preset
from kdseg.networks import create_network
from kdseg.restore import load_network
from kdseg.segmentation_network import SegmentationNetwork

Call = Callable[..., Any]
BANDS = 5


def of_bands(colours: NDArray[np.uint8], bands: int = BANDS) -> NDArray[np.uint8]:
    """Red, green and blue, and mixtures of them."""
    grey = colours.mean(axis=2)
    more = [255 - grey, 0.5 * grey + 0.5 * colours[:, :, 0], grey]
    stacked = np.concatenate([colours, np.stack(more, axis=2)], axis=2)
    return np.ascontiguousarray(stacked[:, :, :bands].round().astype(np.uint8))


def write_bands(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig", **options)


@pytest.fixture(scope="module")
def root(small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bands")
    shutil.copytree(small_nuclei, folder, dirs_exist_ok=True)
    for path in sorted(folder.glob("*/images/*.png")):
        write_bands(path.with_suffix(".tif"), of_bands(np.asarray(Image.open(path).convert("RGB"))))
        path.unlink()
    return folder


@pytest.mark.parametrize("bands", [2, 4, 5, 7])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"compression": "zlib", "predictor": True}])
def test_bands_are_read_as_they_were_written(tmp_path: Path, bands: int, options: dict[str, Any]) -> None:
    pixels = np.random.default_rng(bands).integers(0, 256, (9, 11, bands), dtype=np.uint8)
    path = tmp_path / "a.tif"
    write_bands(path, pixels, **options)
    read = read_image(path)
    np.testing.assert_array_equal(read.pixels, pixels)
    assert read.kind == f"TIFF, 8-bit {bands} bands"
    with pytest.raises(InputError, match=r"a\.tif has several bands \(TIFF, 8-bit \d bands\); a mask is one band"):
        read_mask(path)


def test_wide_numbers_need_a_range(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 10_000, (9, 11, 4)).astype(np.int16)
    path = tmp_path / "a.tif"
    write_bands(path, pixels)
    with pytest.raises(InputError, match=r"data\.value_range=\["):
        read_image(path)
    read = read_image(path, (0, 10_000)).pixels
    np.testing.assert_array_equal(read, np.rint(pixels / 10_000 * 255))


def test_truncated_bands_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    write_bands(path, np.zeros((50, 50, 5), np.uint8))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"a\.tif cannot be read \(it ends before its pixels\)"):
        read_image(path)


def test_bands_without_the_library_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tif"
    write_bands(path, np.zeros((5, 5, 5), np.uint8))
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(InputError, match=r"pip install 'kdshift\[bands\]'$"):
        read_image(path)


def test_data_have_the_bands_of_their_files(root: Path) -> None:
    data = FolderData(root, "fluorescence", batch_size=4, crop_size=32, augmentation="photographic")
    assert data.in_channels == BANDS
    assert data.mean == tuple(IMAGENET_MEAN[band % 3] for band in range(BANDS))
    entry = data.test_parts[0].dataset[0]
    stored = data.test_parts[0].dataset.sample(0).image
    expected = (stored[:, :, 3] / 255 - IMAGENET_MEAN[0]) / IMAGENET_STD[0]
    np.testing.assert_allclose(entry["image"][3].numpy(), expected, rtol=1e-4, atol=1e-5)
    for name in ("mild", "colour", "colour_invert", "photographic"):
        shown = FolderData(root, "fluorescence", batch_size=4, crop_size=32, augmentation=name)
        for _, batch in zip(range(3), shown.train_dataloader(), strict=False):
            assert batch["image"].shape == (4, BANDS, 32, 32)


def test_what_only_colours_have_is_refused_by_name(root: Path) -> None:
    data = FolderData(root, "fluorescence", batch_size=4, crop_size=32, augmentation=[{"transform": "ToGray", "p": 1}])
    with pytest.raises(InputError, match=r"^augmentation: a transform cannot take 5 bands \("):
        next(iter(data.train_dataloader()))


def test_other_bands_among_the_images_are_named(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "data")
    path = sorted((tmp_path / "data" / "fluorescence" / "images").iterdir())[0]
    write_bands(path, np.zeros((48, 48, 4), np.uint8))
    with pytest.raises(InputError, match=rf"{path.name} has 4 bands, .* 5; a network takes one number of them"):
        FolderData(tmp_path / "data", "fluorescence")


def test_normalisation_fits_the_bands() -> None:
    assert list(Loading(mean=[0.1] * 4, std=[0.2] * 4).for_bands(4).mean) == [0.1] * 4
    with pytest.raises(InputError, match=r"^mean has 4 numbers, and the images have 5 bands; give as many$"):
        Loading(mean=[0.1] * 4, std=[0.2] * 4).for_bands(5)
    with pytest.raises(InputError, match=r"^mean has 4 numbers, and the images have 3 bands; give as many$"):
        Loading(mean=[0.1] * 4, std=[0.2] * 4).for_bands(3)


def test_presets_of_colours_are_as_before() -> None:
    assert preset("photographic", bands=3) == preset("photographic")
    assert [entry["transform"] for entry in preset("photographic", bands=4)][3:] == [
        "RandomBrightnessContrast",
        "GaussianBlur",
        "GaussNoise",
    ]


@pytest.mark.parametrize(
    ("encoder", "weights"), [("tu-tf_efficientnet_lite0", "packaged"), ("tu-resnet18", None), ("resnet18", None)]
)
def test_a_first_layer_takes_the_bands(encoder: str, weights: str | None) -> None:
    network = SegmentationNetwork(create_network("unet", encoder, weights, 2, BANDS)).eval()
    assert network.in_channels == BANDS
    assert network(torch.zeros(1, BANDS, 64, 64)).shape == (1, 2, 64, 64)
    if weights is not None:
        of_three = SegmentationNetwork(create_network("unet", encoder, weights, 2)).eval()
        grey = torch.rand(1, 1, 64, 64)
        for bands in (3, 6):  # equal bands are what three equal ones are
            other = SegmentationNetwork(create_network("unet", encoder, weights, 2, bands)).eval()
            other.load_state_dict(
                of_three.state_dict()
                | {name: value for name, value in other.state_dict().items() if "conv_stem" in name}
            )
            torch.testing.assert_close(
                other(grey.expand(1, bands, 64, 64)), of_three(grey.expand(1, 3, 64, 64)), rtol=1e-4, atol=1e-4
            )


def test_every_program_takes_bands(call: Call, root: Path, tmp_path: Path, tiny: list[str]) -> None:
    options = [f"data.root={root}" if option.startswith("data.root") else option for option in tiny]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    steps: list[tuple[Callable[[], None], list[str]]] = [
        (kdseg.check.main, [f"data.root={root}", "data.target=fluorescence", f"out={tmp_path / 'sheet.png'}"]),
        (kdseg.train.main, [*options, f"run_dir={teacher}"]),
        (kdseg.train.main, [*options, "method=kddg_sdd", f"teacher={teacher}", f"run_dir={student}", "seed=1"]),
        (kdseg.evaluate.main, [f"run={student}", "measures=[attacks,analysis,unknown]", "most=1", "attacks.radii=[1]"]),
        (kdseg.predict.main, [f"run={student}", f"images={root}/fluorescence/images", f"out={tmp_path / 'out'}"]),
        (kdseg.export.main, [f"run={student}", f"out={tmp_path / 'shared'}"]),
    ]
    for program, arguments in steps:
        done = call(program, *arguments)
        assert done.status == 0, done.err
    network, trained = load_network(Run(student))
    assert trained.in_channels == network.in_channels == BANDS
    images = np.random.default_rng(0).integers(0, 256, (2, BANDS, 48, 32), dtype=np.uint8)
    assert Session(tmp_path / "shared" / "model.onnx")(torch.as_tensor(images))[0].shape == (2, 2, 48, 32)
    refused = call(kdseg.evaluate.main, f"run={student}", "measures=[corruptions]", "most=1")
    assert refused.status == 2 and "corruptions are of red, green and blue" in refused.err
    colours = sorted((Path(__file__).parents[1] / "data" / "nuclei" / "fluorescence" / "images").iterdir())[0]
    refused = call(kdseg.predict.main, f"run={student}", f"images={colours}", f"out={tmp_path / 'other'}")
    assert refused.status == 2 and "the image has 3 bands, and the network was trained on 5" in refused.err


def test_a_teacher_of_other_bands_is_refused(call: Call, root: Path, tmp_path: Path, tiny: list[str]) -> None:
    assert call(kdseg.train.main, *tiny, "trainer.max_steps=1", f"run_dir={tmp_path / 'colours'}").status == 0
    options = [f"data.root={root}" if option.startswith("data.root") else option for option in tiny]
    done = call(kdseg.train.main, *options, "method=kd", f"teacher={tmp_path / 'colours'}", f"run_dir={tmp_path / 'x'}")
    assert done.status == 2 and "sees images of 3 bands, the data have 5" in done.err
    assert not (tmp_path / "x").exists()
