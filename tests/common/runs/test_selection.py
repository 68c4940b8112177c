"""Weights of the best validation so far."""

import math
import re

import pytest
from torch import nn

from common.errors import InputError
from common.runs.identity import Identity
from common.runs.selection import Selection


def offered(selection: Selection, *scores: float) -> Selection:
    """After validations of networks whose only weight is their number."""
    for number, score in enumerate(scores, start=1):
        network = nn.Linear(1, 1, bias=False)
        nn.init.constant_(network.weight, number)
        selection.offer("validated", network, score)
    return selection


def chosen(selection: Selection) -> float | None:
    weights = selection.weights().get("validated")
    return None if weights is None else float(weights["weight"])


@pytest.mark.parametrize(
    ("scores", "number"),
    [
        ((0.1, 0.3, 0.2), 2),
        ((0.3, 0.3, 0.1), 1),
        ((-2.0, -1.0), 2),
        ((math.nan, 0.1, math.nan), 2),
        ((math.nan,), None),
    ],
)
def test_the_first_of_the_best_is_kept(scores: tuple[float, ...], number: int | None) -> None:
    assert chosen(offered(Selection(["validated"]), *scores)) == number


def test_only_what_was_asked_for_is_kept() -> None:
    assert offered(Selection(["oracle"]), 0.5).weights() == {}
    assert offered(Selection(), 0.5).weights() == {}
    both = Selection(["oracle", "validated", "oracle"])
    both.offer("oracle", nn.Linear(1, 1), 0.5)
    assert list(offered(both, 0.5).weights()) == both.rules == ["validated", "oracle"]


def test_the_kept_weights_do_not_follow_the_training() -> None:
    selection, network = Selection(["validated"]), nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1)
    selection.offer("validated", network, 0.5)
    nn.init.constant_(network.weight, 2)
    assert chosen(selection) == 1


def test_a_state_goes_on_and_stays_as_it_was_taken() -> None:
    selection = offered(Selection(["validated"]), 0.1, 0.3)
    state = selection.state()
    offered(selection, 0.9)
    other = Selection(["validated"])
    other.load(state)
    assert chosen(other) == 2
    assert chosen(offered(other, 0.2)) == 2


def test_nothing_to_choose_by_is_refused() -> None:
    Selection().check("a run without validation")
    Selection(["oracle"]).check(None)
    with pytest.raises(
        InputError, match=re.escape("selection=[validated,oracle] needs validations to choose by, which")
    ):
        Selection(["oracle", "validated"]).check("a run of 3 steps with evaluation.every=0")


def test_one_rule_does_not_change_what_another_keeps() -> None:
    def key(which: str, **more: object) -> str:
        return Identity("seg", {}, {}, {"method": {"name": "erm"}, **more}, 0, versions={}).row_key(which)

    averaging, every = {"name": "wakd"}, {"every": 5}
    both = {"averaging": averaging, "selection": {"rules": ["oracle", "validated"], **every}}
    one = {"selection": {"rules": ["validated"], **every}}
    assert key("last", **both) == key("last") == key("last", **one)
    assert key("averaged", **both) == key("averaged", averaging=averaging) != key("averaged")
    assert key("validated", **both) == key("validated", **one) != key("last")
    assert key("validated", **one) != key("validated", selection={"rules": ["validated"], "every": 6})
