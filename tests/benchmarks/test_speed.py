"""The speed benchmarks run and give what the table and the JSON file need; how fast is not a test's business."""

import json
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from benchmarks.speed import augmentation, growth, machine, play, ppo, profile, run, segmentation, startup, vec_env
from benchmarks.speed.plain import PLAIN, parameters
from kdrl.extractors import EXTRACTORS

pytestmark = pytest.mark.filterwarnings("ignore")


def check(result: dict[str, Any]) -> None:
    assert 0 < result["low"] <= result["value"] <= result["high"]
    assert result["rounds"] >= 1
    assert json.loads(json.dumps(result)) == result


def test_vec_env() -> None:
    check(vec_env.measure(**run.QUICK["vec_env"]))


def test_ppo_in_processes_of_their_own() -> None:
    found = ppo.measure(**run.QUICK["ppo"], names=("stock", "kddg_sdd"))
    assert set(found) == {"kddg_sdd", "memory"}
    for result in found.values():
        check(result)
    facts = found["kddg_sdd"]
    assert (facts["network"], facts["batch_size"]) == ("small", 8)
    assert min(facts["peak_mib"].values()) > 100
    assert all(0 < facts["update_seconds"][name] < facts["seconds"][name] for name in facts["seconds"])


@pytest.mark.parametrize("name", EXTRACTORS)
def test_plain_networks_are_of_the_shape_of_ours(name: str) -> None:
    space = spaces.Box(0, 255, (3, 64, 64), np.uint8)
    ours: Any = EXTRACTORS[name](space, 256)
    assert parameters(PLAIN[name](space, 256)) == parameters(ours)


def test_rollouts_and_evaluation() -> None:
    check(play.measure_rollouts(**run.QUICK["rollouts"]))
    check(play.measure_evaluation(**run.QUICK["evaluation"]))


def test_segmentation() -> None:
    result = segmentation.measure(**run.QUICK["segmentation"])
    check(result)
    check(result["contiguous"])
    check(result["channels_last_gain"])


def test_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(augmentation, "CROP", 32)
    found = augmentation.measure(**run.QUICK["augmentation"])
    assert set(found["ratios"]) == set(augmentation.AUGMENTED)
    assert found["loading"]["value"] < 1


def test_startup() -> None:
    (found,) = startup.measure(**run.QUICK["startup"]).values()
    check(found)


def test_growth() -> None:
    curves = growth.measure(quick=True)
    assert len(growth.draw(curves).axes) == len(curves)
    assert all(len(curve["sizes"]) == len(curve["seconds"]) == 2 for curve in curves.values())


def test_profile() -> None:
    chosen = ppo.settings("kddg_sdd", environments=8, steps=8)
    found = profile.turn(ppo.Player(ppo.make("exact", chosen, None)))
    assert found.pop("processor") == found["seconds"]
    assert found["convolution, backward"] > 0 and found["copies and conversions"] > 0
    assert sum(value for kind, value in found.items() if kind != "seconds") < 2 * found["seconds"]


def test_table_and_verdicts() -> None:
    figure = {"value": 1.02, "low": 1.0, "high": 1.04, "rounds": 3}
    results: dict[str, Any] = {}
    for name, part, _, _ in run.TARGETS.values():
        results[name] = figure if not part else {**results.get(name, {}), part: figure}
    assert run.table(results, "cpu").row_count == len(run.TARGETS)
    results["ppo"].pop("kddg_sdd/ppd")  # no rival was given
    assert run.table(results, "cpu").row_count == len(run.TARGETS) - 1
    assert run.verdict(figure, at_most=True, target=1.05) == "met"
    assert run.verdict(figure, at_most=False, target=1.05) == "missed"
    assert run.verdict(figure, at_most=True, target=1.03) == "met, within the spread"


def test_a_machine_is_described_without_its_names_or_paths() -> None:
    assert set(machine.describe("cpu")) >= {"cpu", "cores", "memory_gib", "python", "versions", "date"}
    assert machine.slug("cpu").replace("-", "").isalnum()
