"""Weights chosen by validation, through the programs of both tasks and into the report."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import kdrl.evaluate
import kdrl.train
import kdseg.evaluate
import kdseg.train
from common.report.main import main as report
from common.runs.folder import Run
from common.runs.selection import Selection
from common.runs.weights import weights_path
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]
Program = tuple[Callable[[], None], Callable[[], None], tuple[str, ...], tuple[str, ...]]
PROGRAMS: dict[str, Program] = {
    "policies": (
        kdrl.train.main,
        kdrl.evaluate.main,
        (
            *(*SMALL_POLICY, "total_timesteps=384", "ppo.n_steps=32", "ppo.learning_rate=0.01"),
            *("evaluation.episodes=4", "evaluation.every=128", "evaluation.progress_episodes=4"),
        ),
        ("device=cpu", "episodes=2", "num_envs=2", "looks=[]"),
    ),
    "segmentation": (
        kdseg.train.main,
        kdseg.evaluate.main,
        (
            *("data=nuclei", "data.target=fluorescence", "data.batch_size=4", "data.crop_size=32"),
            *(*SMALL_NETWORK, "trainer.max_steps=8", "trainer.accelerator=cpu"),
            *("evaluation.every=2", "optimizer.lr=0.03"),
        ),
        ("device=cpu",),
    ),
}


@dataclasses.dataclass
class Case:
    """Both weights were asked for in ``run``, none in ``plain``; ``offers`` are what was chosen from, with scores."""

    task: str
    call: Call
    run: Run
    plain: Run
    offers: dict[str, list[tuple[float, dict[str, Tensor]]]]


@pytest.fixture(scope="module", params=PROGRAMS)
def case(
    request: pytest.FixtureRequest, call: Call, small_nuclei: Path, tmp_path_factory: pytest.TempPathFactory
) -> Case:
    train, _, arguments, _ = PROGRAMS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    data = (f"data.root={small_nuclei}",) if request.param == "segmentation" else ()
    offers: dict[str, list[tuple[float, dict[str, Tensor]]]] = {"validated": [], "oracle": []}
    original = Selection.offer

    def offer(selection: Selection, rule: Any, network: Any, score: float) -> None:
        if rule in selection.rules:
            offers[rule].append((score, {name: tensor.clone() for name, tensor in network.state_dict().items()}))
        original(selection, rule, network, score)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Selection, "offer", offer)
        for name, more in (("plain", ()), ("run", ("selection=[validated,oracle]",))):
            outcome = call(train, *arguments, *data, *more, f"run_dir={folder / name}")
            assert (outcome.status, outcome.err) == (0, "")
    return Case(request.param, call, Run(folder / "run"), Run(folder / "plain"), offers)


def test_choosing_changes_nothing_of_the_training(case: Case) -> None:
    assert (case.run.checkpoints / "last.safetensors").read_bytes() == (
        case.plain.checkpoints / "last.safetensors"
    ).read_bytes()
    names = {path.stem for path in case.run.checkpoints.iterdir()}
    assert names == {"last", "validated", "oracle"}
    assert {row.selection for row in case.run.records() if row.split == "test"} == names
    assert {path.stem for path in case.plain.checkpoints.iterdir()} == {"last"}


def test_the_chosen_weights_are_those_of_the_best_validation(case: Case) -> None:
    assert all(len(offers) >= 3 for offers in case.offers.values())
    for rule, offers in case.offers.items():
        _, best = max(offers, key=lambda offer: offer[0])  # the first of equal ones
        kept = load_file(weights_path(case.run, rule))
        assert all(torch.equal(kept[name], best[name]) for name in kept)
    if case.task == "policies":
        return  # returns of the few episodes that are played along the way are not those of the test
    for split, rule, seen in (("validation", "validated", True), ("test", "oracle", False)):
        tested = [
            row.value
            for row in case.run.records()
            if (row.split, row.metric, row.selection, row.seen) == (split, "miou", rule, seen)
        ]
        assert np.mean(tested) == pytest.approx(max(score for score, _ in case.offers[rule]))


def test_they_can_be_judged_again(case: Case) -> None:
    _, judge, _, arguments = PROGRAMS[case.task]
    outcome = case.call(judge, f"run={case.run.path}", "weights=oracle", *arguments)
    assert (outcome.status, outcome.err) == (0, "") and "weights: oracle" in outcome.out
    outcome = case.call(judge, f"run={case.plain.path}", "weights=validated", *arguments)
    assert outcome.status == 2
    assert outcome.err == (
        f"error: {case.plain.path} has no validated weights; use last, or train it with selection=[validated]\n"
    )


def test_the_report_names_the_oracle_and_draws_no_conclusion_from_it(case: Case, tmp_path: Path) -> None:
    outcome = case.call(report, str(case.run.path), "--out", str(tmp_path / "report"))
    assert outcome.status == 0
    page = (tmp_path / "report" / "report.md").read_text()
    assert "erm (validated)" in page and "erm (oracle)" in page
    assert "erm (oracle): its weights were chosen by the target's own labels" in page
    assert "erm (validated) " in page and "erm (oracle) helps" not in page
    assert "erm (oracle) is not shown" not in page and "erm (oracle) hurts" not in page
    assert next(line for line in page.splitlines() if line.startswith("| erm (oracle) |")).endswith("| oracle |")


def test_nothing_to_choose_by_is_refused_before_anything_is_written(
    case: Case, small_nuclei: Path, tmp_path: Path
) -> None:
    train, _, arguments, _ = PROGRAMS[case.task]
    data = (f"data.root={small_nuclei}",) if case.task == "segmentation" else ()
    folder = tmp_path / "run"
    for more, said in (
        (("selection=[validated]", "evaluation.every=0"), "selection=[validated] needs validations to choose by"),
        (("selection=[best]",), "selection.0='best' is not known"),
    ):
        outcome = case.call(train, *arguments, *data, *more, f"run_dir={folder}")
        assert outcome.status == 2 and said in outcome.err and outcome.err.count("\n") == 1
        assert not folder.exists()
