import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from common.errors import InputError
from kdseg.domains.folder import FolderData
from kdseg.domains.layouts import domains_in

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei"
GROUPED: dict[str, Any] = {"group_column": "mosaic_idx", "name_column": "img_id", "domain_column": "domain"}


def save(path: Path, pixels: NDArray[Any], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two domains of four images, 12 wide and 10 high, with two classes and some ignored pixels."""
    rng = np.random.default_rng(0)
    for domain in ("day", "night"):
        for number in range(4):
            save(tmp_path / domain / "images" / f"{number}.png", rng.integers(0, 256, (10, 12, 3), dtype=np.uint8))
            mask = rng.integers(0, 2, (10, 12), dtype=np.uint8)
            mask[0] = 255
            save(tmp_path / domain / "masks" / f"{number}.png", mask)
    return tmp_path


def test_nuclei_leave_one_domain_out() -> None:
    data = FolderData(NUCLEI, "grey_brightfield", **GROUPED)
    assert data.source_names == ["fluorescence", "purple_on_purple", "purple_on_white"]
    assert (data.num_classes, data.class_names) == (2, ["class_0", "class_1"])
    assert [len(domain) for domain in data.train_dataset.domains] == [10, 10, 10]
    assert [len(part.dataset) for part in data.test_parts] == [12, 2, 3, 2]
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (16, 3, 96, 96)
    assert batch["mask"].shape == (16, 96, 96)
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    assert set(Counter(batch["domain"].tolist()).values()) <= {5, 6}


def test_sources_narrow_the_choice() -> None:
    data = FolderData(NUCLEI, "fluorescence", sources=["purple_on_white", "grey_brightfield"])
    assert data.source_names == ["purple_on_white", "grey_brightfield"]
    assert data.domain_names == ["purple_on_white", "grey_brightfield", "fluorescence"]


def test_groups_stay_on_one_side() -> None:
    for seed in range(3):
        data = FolderData(NUCLEI, "grey_brightfield", split_seed=seed, validation_fraction=0.4, **GROUPED)
        train = {item.group for item in data.train_dataset.items}
        held_out = {item.group for part in data.validation_parts for item in part.dataset.items}
        assert train
        assert held_out
        assert not train & held_out


def test_a_field_in_the_target_is_not_trained_on(caplog: pytest.LogCaptureFixture) -> None:
    # Mosaic 18 is the one field with images in two domains.
    data = FolderData(NUCLEI, "purple_on_white", **GROUPED)
    assert "18" in {item.group for item in data.test_parts[0].dataset.items}
    sources = [*data.train_dataset.items, *(item for part in data.validation_parts for item in part.dataset.items)]
    assert "18" not in {item.group for item in sources}
    assert "left out 1 of 13 images of purple_on_purple" in caplog.text
    apart = FolderData(NUCLEI, "purple_on_white", groups_span_domains=False, **GROUPED)
    everything = [*apart.train_dataset.items, *(item for part in apart.validation_parts for item in part.dataset.items)]
    assert "purple_on_purple/18" in {item.group for item in everything}


def test_grey_files_become_three_equal_channels() -> None:
    sample = FolderData(NUCLEI, "grey_brightfield").test_parts[0].dataset.sample(0)
    assert sample.image.shape == (256, 256, 3)
    assert sample.image.dtype == np.uint8
    assert (sample.image == sample.image[:, :, :1]).all()
    path = NUCLEI / "grey_brightfield" / "images" / f"{sample.name}.png"
    np.testing.assert_array_equal(sample.image[:, :, 0], np.asarray(Image.open(path)))


def test_cache_changes_nothing() -> None:
    cached, fresh = (FolderData(NUCLEI, "fluorescence", cache_mib=size) for size in (1024, 0))
    assert cached.train_dataset.items == fresh.train_dataset.items
    for index in range(len(cached.train_dataset)):
        one, other = cached.train_dataset.sample(index), fresh.train_dataset.sample(index)
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)


def test_evaluation_gives_whole_images_of_several_sizes(root: Path) -> None:
    save(root / "night" / "images" / "big.png", np.zeros((20, 30), dtype=np.uint8))
    save(root / "night" / "masks" / "big.png", np.ones((20, 30), dtype=np.uint8))
    data = FolderData(root, "night", crop_size=8)
    batches = list(data.test_dataloader()[0])
    assert [tuple(batch["image"].shape) for batch in batches] == [(4, 3, 10, 12), (1, 3, 20, 30)]
    assert (batches[0]["mask"][:, 0] == 255).all()


def write_groups(root: Path, text: str) -> None:
    (root / "metadata.csv").write_text(text)


def test_groups_from_names_with_suffix_and_a_byte_order_mark(root: Path) -> None:
    rows = [f"{domain},{number}.png,{domain}{number // 2}" for domain in ("day", "night") for number in range(4)]
    (root / "metadata.csv").write_text("\n".join(["where,file,scene", *rows]), encoding="utf-8-sig")
    data = FolderData(root, "night", group_column="scene", name_column="file", domain_column="where")
    assert [item.group for item in data.test_parts[0].dataset.items] == ["night0", "night0", "night1", "night1"]
    assert len(data.train_dataset) == len(data.validation_parts[0].dataset) == 2


Damage = Callable[[Path], object]


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def truncate(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def scale_masks(folder: Path) -> None:
    for path in folder.iterdir():
        save(path, np.where(np.asarray(Image.open(path)) == 1, 255, 0).astype(np.uint8))


BROKEN: dict[str, tuple[Damage, list[str]]] = {
    "image without mask": (lambda r: (r / "day/masks/2.png").unlink(), ["day/images/2.png", "no mask"]),
    "mask without image": (lambda r: (r / "day/images/2.png").unlink(), ["day/masks/2.png", "no image"]),
    "sizes differ": (
        lambda r: save(r / "day/masks/1.png", np.zeros((10, 11), dtype=np.uint8)),
        ["day/images/1.png is 12x10", "day/masks/1.png is 11x10"],
    ),
    "label too high in the target": (
        lambda r: save(r / "night/masks/3.png", np.full((10, 12), 7, dtype=np.uint8)),
        ["night/masks/3.png holds class 7", "2 classes", "num_classes=8"],
    ),
    "truncated png": (lambda r: truncate(r / "day/images/0.png"), ["day/images/0.png", "truncated"]),
    "png without its end": (lambda r: truncate(r / "day/images/0.png", 0.99), ["day/images/0.png", "truncated"]),
    "truncated mask": (lambda r: truncate(r / "night/masks/0.png"), ["night/masks/0.png", "truncated"]),
    "empty file": (lambda r: (r / "day/images/0.png").write_bytes(b""), ["day/images/0.png", "not an image"]),
    "text": (lambda r: (r / "day/images/0.png").write_text("hello"), ["day/images/0.png", "not an image"]),
    "colour mask": (
        lambda r: save(r / "day/masks/0.png", np.full((10, 12, 3), [0, 128, 0], dtype=np.uint8)),
        ["day/masks/0.png holds colours (PNG, 8-bit RGB)", "data.colour_map={"],
    ),
    "16-bit mask": (
        lambda r: save(r / "day/masks/0.png", np.full((10, 12), 3000, dtype=np.uint16)),
        ["day/masks/0.png holds values from 3000 to 3000", "data.mask_values={0:background,3000:nucleus}"],
    ),
    "jpeg mask": (
        lambda r: save(r / "day/masks/0.png", np.zeros((10, 12), dtype=np.uint8), format="JPEG"),
        ["day/masks/0.png is compressed with loss (JPEG, 8-bit grey)", "as PNG"],
    ),
    "nearly black images": (
        lambda r: [save(r / f"day/images/{n}.png", np.full((10, 12), 3000, dtype=np.uint16)) for n in range(4)],
        ["domain 'day': the values of its 16-bit images end at 3000 of 65535", "data.value_range=[0,4095]"],
    ),
    "numbers without a range": (
        lambda r: (
            save(r / "day/images/0.tif", np.full((10, 12), 9, dtype=np.float32)) or remove(r / "day/images/0.png")
        ),
        ["day/images/0.tif holds floating-point numbers from 9 to 9", "data.value_range=[9,9]"],
    ),
    "name twice": (
        lambda r: save(r / "day/images/0.jpg", np.zeros((10, 12, 3), dtype=np.uint8)),
        ["0.jpg", "0.png", "same name"],
    ),
    "no masks folder": (lambda r: shutil.rmtree(r / "day/masks"), ["day/masks is not a folder"]),
    "empty images folder": (lambda r: remove(*(r / "day/images").iterdir()), ["day/images holds no image", ".png"]),
    "empty domain": (lambda r: (r / "dusk").mkdir(), ["dusk/images is not a folder"]),
    "one image": (
        lambda r: remove(*(r / f"day/{kind}/{n}.png" for kind in ("images", "masks") for n in (1, 2, 3))),
        ["'day'", "1 group", "validation_fraction=0"],
    ),
    "0 and 255 as classes": (
        lambda r: scale_masks(r / "day/masks"),
        ["hold class 0 and 255, which is ignored", "'data.mask_values={0:class_0,255:class_1}'"],
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_are_refused_in_one_line(root: Path, name: str) -> None:
    damage, words = BROKEN[name]
    FolderData(root, "night")  # it is the damage that is refused
    damage(root)
    with pytest.raises(InputError) as caught:
        FolderData(root, "night")
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_truncated_jpeg_is_found(root: Path) -> None:
    (root / "day/images/0.png").unlink()
    path = root / "day/images/0.jpg"
    save(path, np.random.default_rng(0).integers(0, 256, (10, 12, 3), dtype=np.uint8), quality=95)
    FolderData(root, "night")
    truncate(path, 0.9)
    with pytest.raises(InputError, match=r"day/images/0\.jpg cannot be read \(image file is truncated"):
        FolderData(root, "night")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "dusk"}, "target='dusk' is not a domain in .*; known: day, night"),
        ({"target": "night", "sources": ["dusk"]}, "sources='dusk' is not a domain in .*; known: day, night"),
        ({"target": "night", "sources": ["night"]}, "target='night' is among the sources"),
        ({"target": "night", "num_classes": 3, "class_names": ["a", "b"]}, "num_classes=3 but class_names has 2"),
        ({"target": "night", "num_classes": 1}, r"num_classes=1 must be in \[2, 255\]"),
        ({"target": "night", "mask_folder": "labels"}, "day/labels is not a folder"),
        ({"target": "night", "group_column": "scene"}, "metadata.csv is missing"),
        ({"target": "night", "augmentation": [{"transform": "Flipp"}]}, "'Flipp' is not known"),
        ({"target": "night", "validation_fraction": -0.1}, "validation_fraction=-0.1"),
    ],
)
def test_options_that_do_not_fit(root: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        FolderData(root, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("name,field\n0,x\n", r"group_column='scene' is not a column; it has: name, field"),
        ("file,scene\n0,x\n", r"name_column='name' is not a column; it has: file, scene"),
        ("name,scene\n0,x\n1,x\n2,y\n", r"no row for image '3' of domain 'day'"),
        ("name,scene\n0,x\n0,y\n", r"metadata.csv:3 gives image '0' a second scene 'y'; .* set domain_column"),
        ("name,scene\n0,\n", r"metadata.csv:2 has no scene"),
        ("name,scene\n0\n", r"metadata.csv:2 has no scene"),
        ("name,scene\n0,x\n1,x\n2,y\n3,z\n", r"every group of domain 'day' also occurs .* groups_span_domains=false"),
        ("", r"group_column='scene' is not a column"),
    ],
)
def test_group_tables_that_do_not_fit(root: Path, table: str, message: str) -> None:
    write_groups(root, table)
    with pytest.raises(InputError, match=message):
        FolderData(root, "night", group_column="scene")


def test_domains_in_a_folder(root: Path) -> None:
    (root / ".hidden").mkdir()
    assert domains_in(root) == ["day", "night"]
    with pytest.raises(InputError, match="is not a folder"):
        domains_in(root / "missing")
    (root / "bare").mkdir()
    with pytest.raises(InputError, match="holds no folder"):
        domains_in(root / "bare")
