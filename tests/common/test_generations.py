"""Born-again chains: who is whose teacher, which sizes and seeds; and both tasks' programs through a short chain."""

import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from common.chain import run_program, train_chain
from common.errors import InputError
from common.generations import commands, main
from common.report.results import collect
from common.runs.folder import Run
from kdrl.train import main as train_policy
from kdseg.train import main as train_network
from tests.nuclei import SMALL_NETWORK
from tests.policies import SMALL_POLICY

Call = Callable[..., Any]


def test_each_generation_is_taught_by_the_one_before() -> None:
    chain = commands(["kdrl-train", "method=kddg", "env=leaper", "seed=7"], 3, Path("out"))
    assert [path for path, _ in chain] == [Path(f"out/generation{number}") for number in range(4)]
    assert chain[0][1] == ["kdrl-train", "env=leaper", "method=erm", "seed=7", "run_dir=out/generation0"]
    for number, (path, command) in enumerate(chain[1:], start=1):
        assert command[:3] == ["kdrl-train", "env=leaper", "method=kddg"]
        assert command[3:] == [f"seed={7 + number}", f"teacher=out/generation{number - 1}", f"run_dir={path}"]


def test_a_run_may_be_generation_zero() -> None:
    chain = commands(["kdseg-train", "teacher=runs/mine", "method=kd"], 2, Path("out"))
    assert len(chain) == 2 and "teacher=runs/mine" in chain[0][1] and "teacher=out/generation1" in chain[1][1]


def test_students_may_differ_in_size() -> None:
    sizes = ["network.features_dim=64", "network.features_dim=512 ppo.n_epochs=4"]
    chain = commands(["kdrl-train", "method=kd", "network.features_dim=256"], 3, Path("out"), sizes)
    widths = [[part for part in command if part.startswith("network")][-1] for _, command in chain]
    assert [width.partition("=")[2] for width in widths] == ["256", "64", "512", "512"]
    assert ["ppo.n_epochs=4" in command for _, command in chain] == [False, False, True, True]


@pytest.mark.parametrize(
    ("arguments", "count", "students", "message"),
    [
        (["kdrl-train", "method=kd"], 0, [], "count=0 must be at least 1"),
        (["kdrl-train"], 1, [], "the students need a method with a teacher; give method=kd"),
        (["kdrl-train", "method=erm"], 1, [], "the students need a method"),
        (["kdrl-train", "method=kd", "run_dir=x"], 1, [], "run_dir=x is set by the chain; give --out"),
        (["kdrl-train", "method=kd"], 1, ["a=1", "b=2"], "there are 2 --student for 1 generations"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], count: int, students: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        commands(arguments, count, Path("out"), students)


def test_a_failure_ends_the_chain(tmp_path: Path) -> None:
    ran: list[list[str]] = []

    def run(command: list[str]) -> int:
        ran.append(command)
        return 3 if len(ran) == 2 else 0

    assert train_chain(commands(["kdrl-train", "method=kd"], 3, tmp_path), run) == 3
    assert len(ran) == 2


def test_a_signal_reaches_the_generation_once_and_it_is_given_its_time() -> None:
    ends = "signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit(143)))"
    code = f"import os, signal, sys, time; {ends}; os.kill(os.getppid(), signal.SIGTERM); time.sleep(30)"
    before = signal.getsignal(signal.SIGTERM)
    # A program may be given by its path.
    assert run_program([sys.executable, "-c", code]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_program_says_what_is_missing(call: Call, tmp_path: Path) -> None:
    outcome = call(main, "--out", tmp_path, "no-such-program", "method=kd")
    assert outcome.status == 2 and "no-such-program is not a program here; use kdrl-train" in outcome.err
    outcome = call(main, "--out", tmp_path, "--count", 0, "kdrl-train", "method=kd")
    assert (outcome.status, outcome.err) == (2, "error: --count=0 must be at least 1\n")


POLICY = ["kdrl-train", "method=kd", *SMALL_POLICY]
NETWORK = [
    *("kdseg-train", "method=kd", "data=nuclei", "data.root=tests/data/nuclei", "data.target=purple_on_white"),
    *("data.batch_size=2", "trainer.max_steps=2", "evaluation.every=0", "data.crop_size=32", *SMALL_NETWORK),
]


@pytest.mark.parametrize(
    ("program", "train", "students", "key"),
    [
        (POLICY, train_policy, ["network.features_dim=32", "network.features_dim=8"], "features_dim"),
        (NETWORK, train_network, [], "name"),
    ],
    ids=["kdrl", "kdseg"],
)
def test_a_chain_from_end_to_end(
    tmp_path: Path, call: Call, program: list[str], train: Any, students: list[str], key: str
) -> None:
    chain = commands(program, 2, tmp_path / "chain", students)
    ran: list[str] = []

    def run(command: list[str]) -> int:
        ran.append(command[0])
        outcome = call(train, *command[1:])
        print(outcome.err, file=sys.stderr)
        return int(outcome.status)

    assert train_chain(chain, run) == 0
    assert len(ran) == 3
    settings = [yaml.safe_load(Run(path).config_path.read_text()) for path, _ in chain]
    assert [one["method"]["name"] for one in settings] == ["erm", "kd", "kd"]
    assert [one["seed"] for one in settings] == [0, 1, 2]
    assert [one["teacher"] for one in settings] == [None, str(chain[0][0]), str(chain[1][0])]
    if students:
        assert [one["network"][key] for one in settings] == [16, 32, 8]
    # A finished chain is left alone.
    assert train_chain(chain, run) == 0
    assert len(ran) == 3
    # Generations are no seeds of one method: each had another teacher.
    results = collect([tmp_path / "chain"]).results
    assert sorted(result.name for result in results) == ["erm", "kd", "kd"]
    assert len({(result.setting_key, result.row_key) for result in results}) == 3
