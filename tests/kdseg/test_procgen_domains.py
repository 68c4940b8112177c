from typing import Any

import numpy as np
import pytest

from common.errors import InputError
from common.procgen import LevelSet
from common.procgen.labels import class_names
from kdseg.domains.procgen import ProcgenData, draw_frames
from kdseg.domains.sample import DomainData

SMALL: dict[str, Any] = {"train_frames": 20, "validation_frames": 8, "test_frames": 12}


@pytest.fixture(scope="module")
def data() -> ProcgenData:
    return ProcgenData("coinrun", "generated", level_count=50, batch_size=8, **SMALL)


def levels(domain: DomainData) -> set[int]:
    return {int(item.group) for item in domain.items}


def test_parts(data: ProcgenData) -> None:
    assert data.domain_names == ["themed", "plain", "generated"]
    assert data.class_names == list(class_names("coinrun"))
    assert data.num_classes == len(data.class_names)
    assert [len(domain) for domain in data.train_dataset.domains] == [20, 20]
    assert [(part.domain, part.seen, len(part.dataset)) for part in data.test_parts] == [
        ("generated", False, 12),
        ("themed", True, 8),
        ("plain", True, 8),
    ]


def test_levels_of_the_parts_do_not_meet(data: ProcgenData) -> None:
    for domain in data.train_dataset.domains:
        assert levels(domain) <= set(range(50))
    for part in data.validation_parts:
        assert levels(part.dataset.domains[0]) <= set(range(50, 100))
    (target,) = data.test_parts[0].dataset.domains
    assert len(levels(target)) > 6
    assert min(levels(target)) >= 100


def test_batches_are_whole_frames(data: ProcgenData) -> None:
    batch = next(iter(data.train_dataloader()))
    assert batch["image"].shape == (8, 3, 64, 64)
    assert batch["mask"].shape == (8, 64, 64)
    assert set(batch["mask"].unique().tolist()) <= {*range(data.num_classes), 255}
    assert sorted(batch["domain"].tolist()) == [0] * 4 + [1] * 4


def test_looks_differ_as_they_should(data: ProcgenData) -> None:
    themed, plain = data.train_dataset.domains
    black = [np.mean([(sample.image == 0).all(axis=-1).mean() for sample in look]) for look in (plain, themed)]
    assert black[0] > black[1] + 0.1  # plain frames have no background


def test_same_arguments_give_the_same_frames(data: ProcgenData) -> None:
    again = ProcgenData("coinrun", "generated", level_count=50, batch_size=8, **SMALL)
    for one, other in zip(data.train_dataset.domains, again.train_dataset.domains, strict=True):
        assert one.items == other.items
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.mask, b.mask)


def test_frame_seed_changes_the_frames() -> None:
    one, other = (draw_frames("maze", "plain", LevelSet.seen(), 4, seed=seed) for seed in (0, 1))
    assert not np.array_equal(one[0].image, other[0].image)


def test_more_frames_than_copies_are_all_different() -> None:
    domain = draw_frames("coinrun", "themed", LevelSet.seen(), 150)
    assert len(domain) == 150
    assert len({sample.image.tobytes() for sample in domain}) > 140
    assert len(levels(domain)) > 50
    assert len({item.name for item in domain.items}) == 150


def test_no_validation() -> None:
    data = ProcgenData("maze", "plain", ["themed"], train_frames=2, validation_frames=0, test_frames=2)
    assert data.validation_parts == []
    assert [part.domain for part in data.test_parts] == ["plain"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"game": "pong"}, "game='pong' is not known; use one of: .*coinrun"),
        ({"game": "bigfish"}, "game='bigfish' is not known"),
        ({"target": "dusk"}, "target='dusk' is not a domain of coinrun; known: themed, plain, generated"),
        ({"sources": ["dusk"]}, "sources='dusk' is not a domain of coinrun"),
        ({"sources": ["generated"]}, "target='generated' is among the sources"),
        ({"difficulty": "extreme"}, "difficulty='extreme' is not known"),
        ({"train_frames": 0}, r"train_frames=0 must be in \[1"),
        ({"test_frames": 0}, r"test_frames=0 must be in \[1"),
        ({"validation_frames": -1}, r"validation_frames=-1 must be in \[0"),
        ({"level_count": 0}, "level_count=0 must be at least 1"),
        ({"frame_seed": -1}, r"frame_seed=-1 must be in \[0"),
        ({"stride": 0}, "stride=0 must be at least 1"),
        ({"augmentation": [{"transform": "Flipp"}]}, "'Flipp' is not known"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        ProcgenData(**options)
    assert "\n" not in str(caught.value)
