from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from common.errors import InputError
from kdseg.domains.datamodule import SegmentationData
from kdseg.domains.dataset import Loading, SegmentationDataset
from kdseg.domains.draws import SameSizeBatches, TrainingDraws
from kdseg.domains.folder import FolderData
from kdseg.domains.sample import ArrayDomain
from kdseg.domains.split import choose_domains, split_by_group

NUCLEI = Path(__file__).parents[1] / "data" / "nuclei"


def domain(name: str, count: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> ArrayDomain:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, *size, 3), dtype=np.uint8)
    masks = rng.integers(0, 2, (count, *size), dtype=np.uint8)
    names = [f"{name}{number}" for number in range(count)]
    return ArrayDomain(name, images, masks, names, names)


def data(**options: Any) -> SegmentationData:
    return SegmentationData(
        train=[domain("a", 20), domain("b", 5, seed=1)],
        validation=[domain("a", 3, seed=2), domain("b", 2, seed=3)],
        target=domain("c", 4, seed=4),
        class_names=["none", "some"],
        loading=Loading(**{"batch_size": 6, "crop_size": None, **options}),
    )


def equal(one: Sequence[dict[str, torch.Tensor]], other: Sequence[dict[str, torch.Tensor]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a[key], b[key])
        for a, b in zip(one, other, strict=True)
        for key in ("image", "mask", "index", "domain")
    )


def nuclei(**options: Any) -> FolderData:
    return FolderData(NUCLEI, "fluorescence", batch_size=8, crop_size=64, **options)


def test_entry_is_the_normalised_image() -> None:
    source = domain("a", 3)
    loading = Loading(mean=(0.5, 0.4, 0.3), std=(0.25, 0.5, 1.0))
    entry = SegmentationDataset([source], [2], loading, first_index=10)[1]
    image, mask = source.read(1)
    expected = (image.astype(np.float64) / 255 - [0.5, 0.4, 0.3]) / [0.25, 0.5, 1.0]
    assert entry["image"].dtype == torch.float32
    assert entry["image"].is_contiguous()
    np.testing.assert_allclose(entry["image"].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    assert entry["mask"].dtype == torch.int64
    np.testing.assert_array_equal(entry["mask"].numpy(), mask)
    assert (entry["index"], entry["domain"]) == (11, 2)


@pytest.mark.parametrize("workers", [0, 2])
def test_same_seed_twice_gives_the_same_batches(workers: int) -> None:
    reference = list(nuclei(seed=5).train_dataloader())
    assert equal(reference, list(nuclei(seed=5, num_workers=workers).train_dataloader()))


def test_another_seed_gives_other_batches_of_the_same_split() -> None:
    one, other = nuclei(seed=5), nuclei(seed=6)
    assert not equal(list(one.train_dataloader()), list(other.train_dataloader()))
    assert [item.name for item in one.train_dataset.items] == [item.name for item in other.train_dataset.items]


@pytest.mark.parametrize("workers", [0, 2])
def test_epochs_differ_and_can_be_entered_anywhere(workers: int) -> None:
    loader = nuclei(num_workers=workers).train_dataloader()
    first, second = list(loader), list(loader)
    assert not equal(first, second)
    resumed = nuclei().train_dataloader()
    resumed.batch_sampler.sampler.set_epoch(1)  # type: ignore[union-attr]
    assert equal(second, list(resumed))


class Counted(ArrayDomain):
    """Counts what is read."""

    reads = 0

    def read(self, position: int) -> Any:
        self.reads += 1
        return super().read(position)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_in_the_middle_of_a_pass(workers: int, balanced: bool) -> None:
    options = {"balanced": balanced, "augmentation": [{"transform": "ColorJitter", "p": 0.5}], "seed": 3}
    loader = data(**options).train_dataloader()
    whole = [batch for _ in range(4) for batch in loader]  # five batches a pass
    resumed = data(**options, num_workers=workers).train_dataloader(epoch=1, batches=3)
    assert len(resumed) == len(loader) == 5
    passes = [list(resumed) for _ in range(3)]
    assert [len(one) for one in passes] == [2, 5, 5]
    assert equal(whole[8:], [batch for one in passes for batch in one])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_under_a_trainer_that_sets_the_pass(workers: int) -> None:
    loader = data().train_dataloader()
    whole = [batch for _ in range(4) for batch in loader]
    resumed = data(num_workers=workers).train_dataloader(epoch=1, batches=3)
    found = []
    for epoch in (1, 2, 3):
        resumed.batch_sampler.sampler.set_epoch(epoch)  # type: ignore[union-attr]
        found += list(resumed)
    assert equal(whole[8:], found)


def test_draws_number_on_where_a_pass_is_entered() -> None:
    whole = TrainingDraws([10, 3], length=20, seed=1)
    first, second = list(whole), list(whole)
    resumed = TrainingDraws([10, 3], length=20, seed=1, epoch=1, done=15)
    assert list(resumed) == second[15:]
    assert [number for _, number in resumed] == list(range(40, 60))
    assert first[15:] != second[15:]


def test_batches_that_are_left_out_are_not_read() -> None:
    source = domain("a", 30)
    counted = Counted("a", source._images, source._masks, [item.name for item in source.items], ["g"] * 30)
    loading = Loading(batch_size=6, crop_size=None)
    loaders = SegmentationData([counted], [], domain("c", 1), ["none", "some"], loading)
    assert len(list(loaders.train_dataloader(epoch=2, batches=4))) == 1
    assert counted.reads == 6


def test_augmentation_differs_between_draws_of_one_image() -> None:
    whole = data(batch_size=20, samples_per_epoch=40).train_dataloader()
    seen: dict[int, set[bytes]] = {}
    for batch in whole:
        for image, index in zip(batch["image"], batch["index"], strict=True):
            seen.setdefault(int(index), set()).add(image.numpy().tobytes())
    assert max(len(images) for images in seen.values()) >= 3


def test_loaders_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    loaders = data()
    for loader in [loaders.train_dataloader(), *loaders.val_dataloader(), *loaders.test_dataloader()]:
        list(loader)
    assert torch.equal(torch.get_rng_state(), before)


def test_batches_are_full_and_balanced() -> None:
    loader = data().train_dataloader()
    batches = list(loader)
    assert len(batches) == len(loader) == 5  # 25 images in batches of 6, rounded up
    assert all(Counter(batch["domain"].tolist()) == {0: 3, 1: 3} for batch in batches)


def test_unbalanced_draws_pass_over_every_image_once() -> None:
    draws = TrainingDraws([20, 5], length=25, seed=0, balanced=False)
    for epoch in range(2):
        indices, numbers = zip(*draws, strict=True)
        assert sorted(indices) == list(range(25))
        assert list(numbers) == list(range(25 * epoch, 25 * epoch + 25))


def test_balanced_draws_use_every_image_of_a_domain_before_one_returns() -> None:
    indices = [index for index, _ in TrainingDraws([10, 3], length=20, seed=1)]
    assert sorted(index for index in indices if index < 10) == list(range(10))
    small = [index for index in indices if index >= 10]
    assert all(set(small[start : start + 3]) == {10, 11, 12} for start in (0, 3, 6))


def test_indices_are_unique_over_all_domains() -> None:
    loaders = data()
    train = {int(index) for batch in loaders.train_dataloader() for index in batch["index"]}
    assert train <= set(range(25))
    held_out = [int(index) for loader in loaders.val_dataloader() for batch in loader for index in batch["index"]]
    target = [int(index) for batch in loaders.test_dataloader()[0] for index in batch["index"]]
    assert held_out + target == list(range(25, 34))


def test_parts_name_what_they_measure() -> None:
    loaders = data()
    assert loaders.domain_names == ["a", "b", "c"]
    assert (loaders.source_names, loaders.target_name) == (["a", "b"], "c")
    assert (loaders.num_classes, loaders.class_names, loaders.in_channels) == (2, ["none", "some"], 3)
    assert [(part.domain, part.seen) for part in loaders.validation_parts] == [("a", True), ("b", True)]
    assert [(part.domain, part.seen) for part in loaders.test_parts] == [("c", False), ("a", True), ("b", True)]
    assert {int(number) for batch in loaders.test_dataloader()[0] for number in batch["domain"]} == {2}
    sample = loaders.test_parts[0].dataset.sample(3)
    assert (sample.domain, sample.name, sample.group) == ("c", "c3", "c3")
    assert loaders.summary() == "train: a 20, b 5\nvalidation: a 3, b 2\ntest: c 4, a 3, b 2 images, 2 classes"


def test_same_size_batches_hold_every_image_once() -> None:
    sizes = [(4, 4), (4, 6), (4, 4), (4, 4), (100, 100), (100, 100)]
    batches = list(SameSizeBatches(sizes, batch_size=2, pixels=15000))
    assert batches == [[0, 2], [3], [1], [4], [5]]


def test_whole_images_of_several_sizes_need_a_crop() -> None:
    mixed = SegmentationData(
        train=[domain("a", 4, (8, 8)), domain("b", 4, (8, 10))],
        validation=[],
        target=domain("c", 2),
        class_names=["none", "some"],
        loading=Loading(crop_size=None),
    )
    with pytest.raises(InputError, match=r"\(8, 8\) and \(8, 10\); set crop_size"):
        next(iter(mixed.train_dataloader()))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, r"batch_size=0 must be in \[1, 65536\]"),
        ({"crop_size": -3}, "crop_size=-3"),
        ({"num_workers": -1}, "num_workers=-1"),
        ({"seed": 1.5}, "seed=1.5"),
        ({"samples_per_epoch": 0}, "samples_per_epoch=0"),
        ({"mean": [0.5]}, "mean=.*at least 2 items"),
        ({"std": [0.5, 0.5, 0.0]}, "std=.* must be positive"),
    ],
)
def test_numbers_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Loading(**options)


def test_split_keeps_groups_whole() -> None:
    groups = {"a": [f"g{number // 3}" for number in range(30)], "b": [f"h{number}" for number in range(7)]}
    parts = split_by_group(groups, 0.2, seed=0)
    for name, (train, validation) in parts.items():
        assert sorted(train + validation) == list(range(len(groups[name])))
        assert not {groups[name][position] for position in train} & {groups[name][position] for position in validation}
    assert [len(parts[name][1]) for name in ("a", "b")] == [6, 1]


def test_split_of_a_domain_does_not_depend_on_the_others() -> None:
    a, b = [f"a{number}" for number in range(20)], [f"b{number}" for number in range(20)]
    assert split_by_group({"a": a, "b": b}, 0.3, 1)["b"] == split_by_group({"b": b}, 0.3, 1)["b"]
    assert split_by_group({"b": b}, 0.3, 1) != split_by_group({"b": b}, 0.3, 2)


def test_a_group_in_two_domains_is_on_one_side_in_both() -> None:
    shared = [f"s{number}" for number in range(12)]
    for seed in range(5):
        parts = split_by_group({"a": shared, "b": shared[::-1]}, 0.4, seed)
        held_out = [
            {groups[position] for position in parts[name][1]} for name, groups in (("a", shared), ("b", shared[::-1]))
        ]
        assert held_out[0] == held_out[1] != set()


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("groups", [["x", "y"], ["x", "y", "y", "y", "y"], ["x"] * 9 + ["y"]])
def test_split_leaves_a_group_on_each_side(groups: list[str], fraction: float) -> None:
    for seed in range(5):
        train, validation = split_by_group({"a": groups}, fraction, seed)["a"]
        assert train
        assert validation


def test_split_without_validation() -> None:
    assert split_by_group({"a": ["x", "x"]}, 0, 0) == {"a": ([0, 1], [])}


def test_a_split_that_cannot_be() -> None:
    with pytest.raises(InputError, match=r"domain 'a' has 1 group.* validation_fraction=0"):
        split_by_group({"a": ["x", "x"]}, 0.2, 0)
    with pytest.raises(InputError, match=r"validation_fraction=1.0 is outside \[0, 1\)"):
        split_by_group({"a": ["x", "y"]}, 1.0, 0)


def test_choose_domains() -> None:
    known = ["a", "b", "c"]
    assert choose_domains(known, "b", None, "here") == ["a", "c"]
    assert choose_domains(known, "b", ["c"], "here") == ["c"]


@pytest.mark.parametrize(
    ("target", "sources", "message"),
    [
        ("d", None, "target='d' is not a domain here; known: a, b, c"),
        ("a", ["d"], "sources='d' is not a domain here; known: a, b, c"),
        ("a", ["a", "b"], "target='a' is among the sources"),
        ("a", ["b", "b"], "names 'b' twice"),
        ("a", [], "no source domain is left"),
        ("a", "b", r"sources='b' is one word; give a list, such as \[b\]"),
    ],
)
def test_domains_that_cannot_be_chosen(target: str, sources: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose_domains(["a", "b", "c"], target, sources, "here")
