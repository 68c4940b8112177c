"""Folders' default names: what differs from the defaults, whoever says it, in whatever order."""

from collections.abc import Callable
from typing import Any

import pytest

from common.application import run
from kdrl.settings import TrainSettings as PolicySettings
from kdseg.settings import TrainSettings as NetworkSettings

Call = Callable[..., Any]


@pytest.fixture
def folders(call: Call, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """The names of a command's runs, without what is not about changes."""
    monkeypatch.chdir(tmp_path)

    def named(*arguments: str, task: str = "kdrl") -> list[str]:
        seen: list[str] = []
        settings: Any = PolicySettings if task == "kdrl" else NetworkSettings
        outcome = call(lambda: run(f"{task}/train", settings, lambda found: seen.append(found.run_dir)), *arguments)
        assert (outcome.status, outcome.err) == (0, "")
        return [folder.removeprefix(f"runs/{task}/").replace("-{hash}/seed0", "") for folder in seen]

    return named


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "coinrun/erm"),
        (["env=maze", "method=kd"], "maze/kd"),
        (["method=kd", "strength.kd=0.1"], "coinrun/kd-kd0.1"),
        # A default that is spelt out is none.
        (["method=kd", "strength.kd=1.0", "env.look=themed"], "coinrun/kd"),
        (["env.look=plain", "method=kd", "strength.kd=0.1"], "coinrun/kd-kd0.1-look-plain"),
        (["method=kd", "strength.kd=0.1", "env.look=plain"], "coinrun/kd-kd0.1-look-plain"),
        (["network=impala", "averaging=wakd", "driver=mixed"], "coinrun/erm-wakd-mixed-impala"),
        (["averaging=wakd", "averaging.start=0.5"], "coinrun/erm-wakd-start0.5"),
        (["experiment=procgen_easy"], "coinrun/erm-procgen_easy"),
        (["env.game=starpilot"], "starpilot/erm"),
        # What an experiment chooses needs no second word, what is chosen beside it does.
        (["experiment=iter"], "coinrun/iter-iter"),
        (["experiment=iter", "driver=student"], "coinrun/iter-iter-student"),
        # In place of what only repeats another value; and whatever way a number is written.
        (["method=kd", "method.terms.kd.temperature=2"], "coinrun/kd-kd.temperature2"),
        (["method=kd", "method.terms.kd.temperature=1"], "coinrun/kd"),
        (["strength.kd=2.0"], "coinrun/erm-kd2"),
        # Keys of one end are told apart, those that are gone are told of.
        (["averaging=swad", "averaging.start=0.5", "~ppo.gamma"], "coinrun/erm-swad-start0.5-no-gamma"),
        (
            ["strength.sd_dropout={_target_:common.schedule.LinearSchedule,start:0.0,end:1.0}"],
            "coinrun/erm-LinearSchedule-end1-start0",
        ),
        # What changes no result, or stands elsewhere.
        (["teacher=runs/a", "env.threads=1", "checkpoint_every=5", "device=cpu", "resume=never"], "coinrun/erm"),
    ],
)
def test_what_differs_is_in_the_name(folders: Callable[..., list[str]], arguments: list[str], expected: str) -> None:
    (found,) = folders(*arguments)
    assert sorted(found.split("-")) == sorted(expected.split("-"))
    assert found.split("-")[0] == expected.split("-")[0]


def test_jobs_of_a_sweep_have_folders_of_their_own(folders: Callable[..., list[str]]) -> None:
    found = folders("--multirun", "method=kd", "strength.kd=0.1,1", "env=maze,coinrun")
    assert len(found) == len(set(found)) == 4


@pytest.mark.parametrize(
    "sweep",
    [
        ["method.terms.kd.temperature=1,2", "method=kd"],
        ["strength.temperature=1,2", "method.terms.kd.weight=3,4", "method=kd"],
        ["driver=student,mixed", "experiment=iter"],
        ["env.difficulty=easy,hard", "env.num_levels=10,200"],
    ],
)
def test_whatever_is_swept_is_in_the_name(folders: Callable[..., list[str]], sweep: list[str]) -> None:
    found = folders("--multirun", *sweep)
    assert len(found) == len(set(found)) > 1


def test_how_it_was_asked_for_does_not_matter(folders: Callable[..., list[str]]) -> None:
    said = ["method=kd", "strength.kd=0.1", "env.look=plain", "network=impala"]
    twice = ["ppo.gamma=0.9990", "strength.kd=.10", "method.terms.kd.temperature=1", "driver=student"]
    assert folders(*said) == folders(*reversed(said)) == folders(*said, *twice)


def test_segmentation_names_its_data(folders: Callable[..., list[str]]) -> None:
    given = ["data=nuclei", "data.root=/data/a_b", "data.target=purple"]
    assert folders(*given, "optimizer.lr=0.01", task="kdseg") == ["nuclei/purple/erm-lr0.01"]
    assert folders("data.game=maze", "network.encoder_depth=2", task="kdseg") == [
        "procgen/generated/erm-game-maze-encoder_depth2"
    ]


def test_names_are_safe_and_short(folders: Callable[..., list[str]]) -> None:
    given = ["data=nuclei", "data.root=x", "data.target=purple", "data.sources=['a/../b','$x y','[z]']"]
    (found,) = folders(
        *given, *(f"+trainer.{name}=true" for name in ("inference_mode", "detect_anomaly")), task="kdseg"
    )
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/")
    assert len(found.split("/")[-1]) <= 90 and ".." not in found.split("/")
