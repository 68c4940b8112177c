"""Metrics of any unit and direction: shown in it, judged by it, aggregated where it is common."""

import base64
import csv
import dataclasses
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from common.evaluation.statistics import Interval
from common.report.comparison import compare
from common.report.estimates import resample
from common.report.families import families
from common.report.main import main
from common.report.pictures import _most_different
from common.report.results import collect
from common.report.rows import Difference
from common.report.theme import clip_html
from common.runs.folder import Run
from common.runs.records import Record


def add(run: Run, metric: str, value: float) -> None:
    """Record another metric beside the mean IoU."""
    tests = [record for record in run.records() if record.split == "test" and record.metric == "miou"]
    run.append(dataclasses.replace(record, metric=metric, value=value) for record in tests)


def test_other_metrics_are_shown_in_their_units(
    tmp_path: Path, write: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0, images=4)
    for metric, value in (("nll", 1.2345), ("ece", 0.1234), ("brier", 0.5678), ("latency", 17.0)):
        add(run, metric, value)
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--resamples", "100"])
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for heading, value in (
        ("NLL (nats, less is better)", "1.23"),
        ("ECE (%, less is better)", "12.3"),
        ("Brier score (less is better)", "0.57"),
        ("latency (as recorded)", "17.00"),
    ):
        assert f'<th scope="col">{heading}</th>' in page and f"<td>{value}</td>" in page
    (row,) = csv.DictReader((tmp_path / "out" / "report.csv").read_text().splitlines())
    assert (row["unseen_nll"], row["unseen_ece"]) == ("1.2345", "0.1234")


def test_less_is_better_where_a_metric_says_so(tmp_path: Path, write: SimpleNamespace) -> None:
    for method, value in (("erm", 2.0), ("kd", 1.0)):
        for seed in range(2):
            add(write.segmentation_run(tmp_path / f"{method}-{seed}", method, seed, images=4), "nll", value + seed / 10)
    ((setting,),) = (family.settings for family in families(collect([tmp_path]).results, "erm"))
    probabilities = {}
    for metric in ("miou", "nll"):
        judged = dataclasses.replace(setting, metric=metric)
        row = compare([resample(judged, judged.unseen, resamples=100, seed=0)])[1]
        assert row.difference is not None
        probabilities[metric] = row.difference.probability
        assert row.difference.higher_is_better == (metric == "miou")
    assert row.difference is not None
    assert row.difference.value == pytest.approx(-1.0)
    assert probabilities["nll"] == 1.0
    assert row.difference.interval is None  # no items give it


@pytest.mark.parametrize(
    ("value", "higher", "verdict"), [(1, True, "better"), (1, False, "worse"), (-1, False, "better")]
)
def test_verdicts_go_by_direction(value: float, higher: bool, verdict: str) -> None:
    found = Difference(value, Interval(value, value), 0.5, None, 0.01, 0.01, 5, higher)
    assert found.verdict == verdict
    assert dataclasses.replace(found, adjusted=0.06).verdict == "undecided"


def test_over_targets_there_are_metrics_of_a_common_unit_alone(tmp_path: Path, write: SimpleNamespace) -> None:
    for game in ("coinrun", "ninja"):
        run = write.policy_run(tmp_path / game, "erm", 0, 0.7, game=game)
        tests: list[Record] = [record for record in run.records() if record.metric == "normalized_return"]
        run.append(dataclasses.replace(record, metric="normalized_return_paper") for record in tests)
    (family,) = families(collect([tmp_path]).results, "erm")
    parts = [resample(setting, setting.unseen, resamples=100, seed=0) for setting in family.over_targets[0]]
    assert set(compare(parts[:1])[0].extra) == {"normalized_return_paper", "return"}
    assert set(compare(parts)[0].extra) == {"normalized_return_paper"}


def test_pictures_are_those_on_which_methods_differ_most() -> None:
    masks = np.zeros((6, 4, 4), np.uint8)
    masks[5] = 255  # nothing is labelled there, so that it does not count
    first = np.zeros_like(masks)
    other = first.copy()
    for position, pixels in ((1, 3), (3, 9), (4, 6), (5, 16)):
        other[position].flat[:pixels] = 1
    assert _most_different([first, other, None], masks) == [1, 3, 4]
    assert _most_different([first], masks) == [0, 1, 2]


def test_a_clip_moves_and_stands_still_for_who_asks() -> None:
    frames = np.zeros((5, 64, 64, 3), np.uint8)
    for number in range(5):
        frames[number, :, 10 * number : 10 * number + 10] = (200, 40 * number, 0)
    html = clip_html(frames, "erm, seen")
    still, moving = (Image.open(io.BytesIO(base64.b64decode(one))) for one in re.findall(r"base64,([^\"]+)\"", html))
    assert (still.n_frames, moving.n_frames) == (1, 5)
    assert moving.size == (128, 128)
    assert 'media="(prefers-reduced-motion: reduce)"' in html and 'alt="erm, seen"' in html
