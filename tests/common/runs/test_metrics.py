"""The table of metrics: unit and direction of each, and what a task is judged by."""

import pytest

from common.runs.metrics import METRICS, TASKS, metric


def test_every_task_is_judged_by_what_more_of_is_better_and_items_give() -> None:
    for facts in TASKS.values():
        for name in facts.judged_by:
            assert METRICS[name].higher_is_better
            assert METRICS[name].items is not None


@pytest.mark.parametrize(
    ("name", "heading"),
    [
        ("miou", "mIoU (%)"),
        ("iou/nucleus", "IoU nucleus (%)"),
        ("normalized_return", "normalised return (%)"),
        ("return", "return (reward)"),
        ("nll", "NLL (nats, less is better)"),
        ("ece", "ECE (%, less is better)"),
        ("brier", "Brier score (less is better)"),
        ("something", "something (as recorded)"),
    ],
)
def test_headings_say_unit_and_direction(name: str, heading: str) -> None:
    assert metric(name).name == name
    assert metric(name).heading == heading


def test_returns_of_two_games_have_no_common_unit() -> None:
    assert not metric("return").has_common_unit
    assert metric("normalized_return").has_common_unit
    assert not metric("something").has_common_unit
