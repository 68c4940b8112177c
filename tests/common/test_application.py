"""Command-line programs: typed settings in, one line of error out. With the configuration of ``kdrl-train``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from safetensors.torch import save_file

from common.application import one_line, one_line_errors, run
from common.errors import AlreadyFinishedError, InputError, Interrupted, NonFiniteLossError
from common.text import clipped
from kdrl.settings import EvaluateSettings, TrainSettings

Call = Callable[..., Any]


def program(task: Callable[[TrainSettings], object], name: str = "kdrl/train") -> Callable[[], None]:
    settings: Any = TrainSettings if name == "kdrl/train" else EvaluateSettings
    return lambda: run(name, settings, task)


def raises(error: BaseException) -> Callable[[], None]:
    def task(settings: TrainSettings) -> None:
        raise error

    return program(task)


def nothing(settings: TrainSettings) -> None:
    raise AssertionError("must not run")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_task_gets_typed_settings(call: Call, tmp_path: Path) -> None:
    seen: list[TrainSettings] = []
    outcome = call(program(seen.append), "env=maze", "seed=7", "method=kddg", "env.num_envs=4")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    settings = seen[0]
    assert isinstance(settings, TrainSettings)
    assert (settings.seed, settings.env.game, settings.env.num_envs) == (7, "maze", 4)
    # What the run is fills in the rest.
    assert settings.run_dir == "runs/kdrl/maze/kddg-num_envs4-{hash}/seed7"
    assert settings.method["terms"]["kddg"]["temperature"] == settings.strength["temperature"] == 1.0
    assert list(tmp_path.iterdir()) == []  # Hydra keeps its hands off the folder


def test_one_run_is_composed_once(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    composed = []
    original = ConfigLoaderImpl.load_configuration

    def load(*arguments: Any, **named: Any) -> Any:
        composed.append(named["config_name"])
        return original(*arguments, **named)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", load)
    seen: list[TrainSettings] = []
    assert call(program(seen.append), "env=maze", "run_dir=runs/a").status == 0
    assert composed == ["kdrl/train"]
    # Hydra's own way, where there is more to it than one run: the same settings.
    assert call(program(seen.append), "env=maze", "run_dir=runs/a", "hydra.verbose=false").status == 0
    assert len(composed) > 2 and seen[0] == seen[1]


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("x=1 is wrong; use 2"), 2, "error: x=1 is wrong; use 2\n"),
        (NonFiniteLossError("the loss is nan at step 5"), 3, "error: the loss is nan at step 5\n"),
        (PermissionError(13, "Permission denied", "/x"), 2, "error: [Errno 13] Permission denied: '/x'\n"),
    ],
)
def test_mistakes_are_one_line_and_a_status(call: Call, error: Exception, status: int, message: str) -> None:
    outcome = call(raises(error))
    assert (outcome.status, outcome.out, outcome.err) == (status, "", message)


@pytest.mark.parametrize("error", [ValueError("a\nbug"), KeyError("bug"), RuntimeError(), AssertionError("x" * 5000)])
def test_what_nobody_foresaw_is_one_line_with_its_place(call: Call, error: Exception) -> None:
    class Broken(str):
        def __len__(self) -> int:
            raise error

    def task(settings: object) -> None:
        clipped(Broken(), 3)

    outcome = call(program(task))
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(f"error: {type(error).__name__} in common/text.py, clipped: ")
    assert outcome.err.endswith("; run again with --debug for the traceback\n")
    assert outcome.err.count("\n") == 1 and len(outcome.err) < 700
    with pytest.raises(type(error)):
        call(program(task), "--debug")


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (Interrupted(2, "interrupted; saved at step 5"), 130, "interrupted; saved at step 5\n"),
        (Interrupted(15), 143, "interrupted\n"),
    ],
)
@pytest.mark.parametrize("sweep", [[], ["--multirun", "seed=0,1"]])
def test_signals_end_a_program_and_a_sweep_with_their_status(
    call: Call, error: BaseException, status: int, said: str, sweep: list[str]
) -> None:
    outcome = call(raises(error), *sweep)
    assert (outcome.status, outcome.out, outcome.err) == (status, "", said)


def test_the_traceback_can_be_asked_for(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(InputError, match="wrong"):
        call(raises(InputError("wrong")))
    with pytest.raises(Exception, match="Could not find 'method/foo'"):
        call(program(nothing), "method=foo")


@pytest.mark.parametrize("given", [None, "0", "1"])
def test_the_environment_is_left_as_it_was(call: Call, monkeypatch: pytest.MonkeyPatch, given: str | None) -> None:
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    if given is not None:
        monkeypatch.setenv("HYDRA_FULL_ERROR", given)
    call(program(lambda settings: None))
    assert os.environ.get("HYDRA_FULL_ERROR") == given
    if given != "1":
        # So a second program in the same process is as terse as the first.
        assert [call(raises(InputError("wrong"))).err for _ in range(2)] == ["error: wrong\n"] * 2
    assert os.environ.get("HYDRA_FULL_ERROR") == given


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["method=foo"], "method=foo is not known; use one of: "),
        (["env=foo"], "env=foo is not known; use one of: bigfish, bossfight, "),
        (["sead=1"], "sead is not a key of the configuration; see --cfg job for those there are\n"),
        (["ppo.foo=1"], "ppo.foo is not a key of the configuration; see --cfg job for those there are (+ppo.foo=… ad"),
        (["ppo.n_steps.deep=1"], "ppo.n_steps.deep is not a key"),
        (["~ppo.foo"], "Could not delete from config. 'ppo.foo' does not exist."),
        (["+sead=1"], "sead is not a key of the configuration"),
        (["run_dir=${nowhere}"], "Interpolation key 'nowhere' not found\n"),
        (["seed=[1"], "seed=[1 cannot be read; quote a value that holds such characters: 'seed=\"[1\"'\n"),
        (["a b"], ""),
        (["env.game=maze,leaper"], "env.game='maze,leaper' is not known; use one of: big"),
        (["env=maze,leaper"], "Ambiguous value for argument 'env=maze,leaper'"),
        (["seed=abc"], "seed='abc': Input should be a valid integer"),
        (["experiment=foo"], "experiment=foo is not known; use one of: complementary, "),
        (["+experiment=foo"], "kdrl/experiment=foo is not known\n"),
    ],
)
def test_what_hydra_refuses_is_one_line(call: Call, tmp_path: Path, arguments: list[str], expected: str) -> None:
    outcome = call(program(nothing), *arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith(f"error: {expected}")
    assert outcome.err.endswith("\n") and outcome.err.count("\n") == 1
    assert "full_key" not in outcome.err and "object_type" not in outcome.err
    assert list(tmp_path.iterdir()) == []


def test_what_must_be_given_is_named(call: Call) -> None:
    outcome = call(program(nothing, "kdrl/evaluate"))
    assert (outcome.status, outcome.err) == (2, "error: run is missing; give run=…\n")
    outcome = call(program(nothing, "kdrl/train"), "env.game=???")
    assert (outcome.status, outcome.err) == (2, "error: env.game is missing; give env.game=…\n")
    # The run's folder and the game's name are made of it.
    outcome = call(program(nothing, "kdrl/train"), "env=gymnasium")
    assert (outcome.status, outcome.err) == (2, "error: env.id is missing; give env.id=…\n")


def test_hydras_own_flags_work(call: Call, tmp_path: Path) -> None:
    outcome = call(program(nothing), "--cfg", "job", "env=maze")
    assert (outcome.status, outcome.err) == (0, "")
    assert "game: maze" in outcome.out and "sd_dropout: 0.01" in outcome.out
    outcome = call(program(nothing), "--help")
    assert outcome.status == 0 and "kddg_sdd" in outcome.out and "unet_small" in outcome.out
    assert list(tmp_path.iterdir()) == []


def test_a_multirun_runs_every_combination(call: Call) -> None:
    seen: list[tuple[int, str]] = []
    task = program(lambda settings: seen.append((settings.seed, settings.env.game)))
    outcome = call(task, "--multirun", "seed=0,1", "env=maze,leaper")
    assert (outcome.status, outcome.err) == (0, "")
    assert seen == [(0, "maze"), (0, "leaper"), (1, "maze"), (1, "leaper")]


def test_a_sweep_goes_on_after_a_job_that_fails(call: Call) -> None:
    seen: list[int] = []

    def task(settings: TrainSettings) -> None:
        seen.append(settings.seed)
        if settings.seed == 0:
            raise NonFiniteLossError("the loss is nan")
        if settings.seed == 1:
            raise InputError("x=1 is wrong")

    outcome = call(program(task), "--multirun", "seed=0,1,2,x")
    assert seen == [0, 1, 2]
    assert outcome.status == 3  # that of the first
    assert outcome.err.splitlines() == [
        "error: the loss is nan (job 1: seed=0)",
        "error: x=1 is wrong (job 2: seed=1)",
        "error: seed='x': Input should be a valid integer, unable to parse string as an integer (job 4: seed=x)",
        "3 of 4 jobs failed; the same sweep runs those alone",
    ]


def test_a_sweep_passes_over_what_is_finished(call: Call) -> None:
    error = AlreadyFinishedError("run_dir=a already holds this very run, finished; choose another run_dir")
    outcome = call(raises(error), "--multirun", "seed=0,1")
    assert (outcome.status, outcome.err) == (0, "")
    assert outcome.out == "finished already: seed=0\nfinished already: seed=1\n"
    # Alone it is a mistake: nothing was done.
    outcome = call(raises(error))
    assert (outcome.status, outcome.err) == (2, f"error: {error}\n")


def test_one_line_keeps_what_is_one_line() -> None:
    assert one_line(ValueError("x=1: wrong\n  full_key: x\nobject_type=dict")) == "x=1: wrong"
    assert one_line(InputError("full_key_of_mine=1 is wrong")) == "full_key_of_mine=1 is wrong"


def test_what_a_library_says_of_the_file_system_is_foreseen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop, one_line_errors():
        save_file({"weight": torch.zeros(8)}, "/no/such/folder/file.safetensors")
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "No such file or directory (os error 2)" in said and "--debug" not in said


def test_one_line_errors_let_success_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with one_line_errors():
        print("fine")
    assert capsys.readouterr() == ("fine\n", "")
    with pytest.raises(SystemExit) as stop, one_line_errors():
        raise InputError("wrong")
    assert stop.value.code == 2
    assert capsys.readouterr() == ("", "error: wrong\n")


def test_names_of_others_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), one_line_errors():
        raise InputError("run=\x1b[2J\r\u202eevil [red]" + "x" * 5000)
    said = capsys.readouterr().err
    assert said.startswith("error: run=\\x1b[2J\\x0d\\u202eevil [red]xxx") and said.endswith("xxx…\n")
    assert len(said) < 2100
