"""A run's folder: nothing is half written, nothing is lost, and what is broken is named."""

import os
from pathlib import Path

import pytest

from common.errors import InputError
from common.runs.destination import check_free
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.status import Status
from tests.rows import make_record

RECORD = make_record()
TEST_RECORD = make_record(split="test")
IDENTITY = Identity("seg", {"budget": 100}, {"target": "generated"}, {"method": "kd"}, 3)
FINISHED = Status("finished", 100, 100, 1.5)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.begin("method: kd\n", IDENTITY, 100)
    return run


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what it says of itself ------------------------------------------------------------------------------------------


def test_begin_writes_what_the_run_is(run: Run) -> None:
    assert _names(run.path) == {"config.yaml", "identity.json", "status.json"}
    assert run.config_path.read_text() == "method: kd\n"
    assert run.identity() == IDENTITY
    assert run.status() == Status("training", 0, 100)


def test_finished_is_a_state_and_not_what_rows_are_there(run: Run) -> None:
    run.append([TEST_RECORD])
    assert not run.finished
    run.set_status(Status("trained", 100, 100, 1.5))
    assert not run.finished
    run.set_status(FINISHED)
    assert run.finished


def test_a_run_of_before_there_was_a_status_is_finished_where_it_was_tested(run: Run) -> None:
    for path in (run.status_path, run.identity_path):
        path.unlink()
    assert run.status() == Status("training") and run.identity() is None
    run.append([RECORD])
    assert not run.finished
    run.append([TEST_RECORD])
    assert run.finished and run.status() == FINISHED


@pytest.mark.parametrize("content", ["", "[]", '{"stage": "done"}', '{"stage": "finished", "steps": -1}', "\xff"])
def test_a_damaged_status_is_named(run: Run, content: str) -> None:
    run.status_path.write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=r"status\.json is not") as caught:
        run.status()
    assert "\n" not in str(caught.value)


def test_only_a_finished_run_is_of_use_unless_asked_for(run: Run) -> None:
    with pytest.raises(InputError, match=r"teacher=x is not finished \(training, 0 of 100 steps\)"):
        run.check_finished("teacher=x")
    assert run.check_finished("teacher=x", unfinished_too=True).stage == "training"
    run.set_status(FINISHED)
    assert run.check_finished("teacher=x") == FINISHED
    with pytest.raises(InputError, match=r"teacher=x is not a run's folder"):
        Run(run.path / "nothing").check_finished("teacher=x", unfinished_too=True)


# --- whose it is -----------------------------------------------------------------------------------------------------


def test_a_free_folder_is_one_that_holds_no_other_things(run: Run, tmp_path: Path) -> None:
    check_free(run)  # interrupted
    (run.path / ".status.x1.json").write_text("half")  # a killed process was writing it
    check_free(run)
    run.remove_leftovers()
    assert _names(run.path) == {"config.yaml", "identity.json", "status.json"}
    run.set_status(FINISHED)
    with pytest.raises(InputError, match="already holds a finished run"):
        check_free(run)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds files that are not a run's"):
        check_free(Run(tmp_path / "thesis"))
    with pytest.raises(InputError, match="is a file"):
        check_free(Run(tmp_path / "thesis" / "thesis.tex"))
    assert _names(tmp_path) == {"run", "thesis"}
    with pytest.raises(InputError, match=r"run_dir=.*thesis.tex/new/run: .*thesis.tex is a file"):
        check_free(Run(tmp_path / "thesis" / "thesis.tex" / "new" / "run"))
    check_free(Run(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_new_folder_where_nothing_can_be_made_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda place, _: Path(place) != tmp_path)  # as on a read-only disk
    with pytest.raises(InputError, match=f"run_dir=.*/new/run: {tmp_path} cannot be written to; give another one"):
        check_free(Run(tmp_path / "new" / "run"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="cannot be written to"):
        check_free(Run("new/run"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_refused(run: Run) -> None:
    run.path.chmod(0o500)
    with pytest.raises(InputError, match="cannot be written to"):
        check_free(run)


def test_set_aside_keeps_what_was_there_and_leaves_room(run: Run) -> None:
    run.append([RECORD])
    assert run.set_aside() == run.path.with_name("run.interrupted-1")
    assert Run(run.path.with_name("run.interrupted-1")).records() == [RECORD]
    assert _names(run.path) == set()
    assert run.set_aside() == run.path.with_name("run.interrupted-2")
