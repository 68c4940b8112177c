import json

import numpy as np
import pytest

from benchmarks.evaluation.corruption_statistics import RESULTS, scene, statistics
from common.errors import InputError
from common.evaluation.corruptions import BENCHMARK, CORRUPTIONS, SEVERITIES, corrupt
from common.evaluation.corruptions.strengths import STRENGTHS
from common.evaluation.corruptions.weather import fractal

REFERENCE = json.loads(RESULTS.read_text())
# Its texture is ours.
LOOSE = {"frost": 0.08}


def test_all_nineteen_are_there() -> None:
    assert len(CORRUPTIONS) == 19
    assert len(BENCHMARK) == 15
    assert set(STRENGTHS) == set(CORRUPTIONS)
    assert set(REFERENCE) == set(CORRUPTIONS) - {"elastic_transform"}


@pytest.mark.parametrize("name", REFERENCE)
def test_an_image_is_changed_as_by_the_published_ones(name: str) -> None:
    image, draws = scene(), 20 if name == "fog" else 6
    for severity in SEVERITIES:
        drawn = [statistics(image, corrupt(image, name, severity, [draw])[0]) for draw in range(draws)]
        found = np.mean(drawn, axis=0)
        expected = np.array(REFERENCE[name][severity - 1])
        # What is drawn once an image differs from draw to draw; these are four of its deviations.
        allowed = LOOSE.get(name, 0.03 if name in ("fog", "snow", "spatter") else 0.006)
        assert np.abs(found - expected).max() < allowed, (severity, found, expected)


@pytest.mark.parametrize("side", [64, 160])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_it_is_drawn_from_its_seed_and_gets_worse(name: str, side: int) -> None:
    image = scene(side)[:, : side - 7]
    kept = image.copy()
    changes = []
    for severity in SEVERITIES:
        first, again, other = (corrupt(image, name, severity, seed)[0] for seed in ([3, 1], [3, 1], [3, 2]))
        assert first.shape == image.shape and first.dtype == np.uint8
        assert np.array_equal(first, again)
        if name not in DETERMINISTIC:
            assert not np.array_equal(first, other)
        changes.append(np.mean([statistics(image, corrupt(image, name, severity, [n])[0])[2] for n in range(4)]))
    assert np.array_equal(image, kept)
    assert min(changes) > 0
    if name not in NOT_ORDERED:
        assert changes == sorted(changes)


DETERMINISTIC = (
    *("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression", "gaussian_blur"),
    "saturate",
)
# The authors' strengths are of several effects at once, and not each step is a larger change of every image.
NOT_ORDERED = ("saturate", "elastic_transform", "snow", "frost", "fog", "glass_blur", "spatter")


def test_a_mask_moves_with_the_image_and_nothing_else_moves_it() -> None:
    mask = np.zeros((64, 64), dtype=np.int64)
    mask[20:40, 10:50] = 1
    mask[:3] = 255
    image = np.repeat((mask == 1)[..., None], 3, axis=2).astype(np.uint8) * 255
    for severity in SEVERITIES:
        moved, after = corrupt(image, "elastic_transform", severity, [5], mask)
        assert after is not None
        assert set(np.unique(after)) <= {0, 1, 255}
        assert not np.array_equal(after, mask)
        # The image says where the class is now.
        assert (((moved[..., 0] > 127) == (after == 1))[5:-5, 5:-5]).mean() > 0.97
    for name in CORRUPTIONS:
        if name != "elastic_transform":
            assert corrupt(image, name, 3, [5], mask)[1] is mask


def test_impulses_hit_the_published_share_of_values() -> None:
    image = np.full((256, 256, 3), 100, dtype=np.uint8)
    for severity, share in zip(SEVERITIES, STRENGTHS["impulse_noise"][0], strict=True):
        noisy = corrupt(image, "impulse_noise", severity, [0])[0]
        assert abs((noisy != 100).mean() - share) < 0.004
        assert abs((noisy == 255).mean() - share / 2) < 0.003


def test_fractal_noise_fills_its_range_and_is_smoother_with_more_decay() -> None:
    rough, smooth = (fractal((50, 70), decay, np.random.default_rng(0)) for decay in (1.4, 3.0))
    assert rough.shape == (50, 70)
    assert rough.min() >= 0 and rough.max() <= 1
    assert np.abs(np.diff(smooth, axis=1)).mean() < 0.5 * np.abs(np.diff(rough, axis=1)).mean()


@pytest.mark.parametrize(
    ("name", "severity", "told"),
    [("rain", 1, "corruption='rain' is not known"), ("fog", 6, "severity=6 is not known; use one of: 1, 2, 3, 4, 5")],
)
def test_what_is_unknown_is_refused(name: str, severity: int, told: str) -> None:
    with pytest.raises(InputError, match=told):
        corrupt(scene(64), name, severity, [0])
