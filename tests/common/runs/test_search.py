"""Finding runs: each once, and what is passed over is named."""

from pathlib import Path

import pytest

from common.errors import InputError
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.search import find_runs

IDENTITY = Identity("seg", {"budget": 100}, {"target": "generated"}, {"method": "kd"}, 3)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    run = Run(tmp_path / "run")
    run.begin("method: kd\n", IDENTITY, 100)
    return run


def test_find_runs_at_and_below_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = tmp_path / "runs"
    for name in ("b", "a/1", "a/2"):
        run = Run(runs / name)
        run.begin("", IDENTITY, 1)
    kept = Run(runs / "b" / "teachers" / "0")
    kept.begin("", IDENTITY, 1)
    expected = [runs / "a" / "1", runs / "a" / "2", runs / "b"]
    assert [run.path for run in find_runs([runs]).runs] == expected
    assert [run.path for run in find_runs([str(runs / "b")]).runs] == [runs / "b"]
    monkeypatch.chdir(tmp_path)
    assert len(find_runs([runs, "runs/a", runs / "b"]).runs) == 3


def test_links_are_followed_to_runs_and_named_elsewhere(run: Run, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "linked").symlink_to(run.path)
    (runs / "again").symlink_to(run.path)
    (runs / "photographs").symlink_to(tmp_path)
    found = find_runs([runs])
    assert len(found.runs) == 1 and found.runs[0].path.resolve() == run.path
    assert found.passed_over == [
        f"{runs / 'photographs'}: a link to a folder that is no run's is not searched; give it itself"
    ]


def test_find_runs_names_what_it_cannot_find(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere does not exist"):
        find_runs([tmp_path / "nowhere"])
    with pytest.raises(InputError, match="no run found in"):
        find_runs([tmp_path])
