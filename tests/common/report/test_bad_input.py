from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from common.report.main import main
from common.runs.folder import Run


def broken_line(run: Run) -> None:
    lines = run.record_path.read_text().splitlines()
    run.record_path.write_text("\n".join([lines[0], "{not json", *lines[1:]]) + "\n")


def wrong_type(run: Run) -> None:
    text = run.record_path.read_text()
    run.record_path.write_text(text.replace('"seed": 0', '"seed": "zero"', 1))


def unknown_task(run: Run) -> None:
    run.record_path.write_text(run.record_path.read_text().replace('"seg"', '"audio"'))


def not_text(run: Run) -> None:
    run.record_path.write_bytes(b"\xff\xfe\x00broken\n")


def broken_items(run: Run) -> None:
    run.items_path.write_bytes(run.items_path.read_bytes()[:100])


def unfinished(run: Run) -> None:
    run.record_path.write_text("")


def fails_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (broken_line, "record.jsonl:2 is not a record"),
        (wrong_type, "record.jsonl:1 is not a record"),
        (unknown_task, "record.jsonl:1 is not a record (task: "),
        (not_text, "record.jsonl:1 is not a record"),
        (broken_items, "items.npz cannot be read"),
        (unfinished, "not finished"),
    ],
)
def test_damaged_runs(
    tmp_path: Path,
    write: SimpleNamespace,
    damage: Callable[[Run], None],
    named: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    damage(write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0))
    assert named in fails_in_one_line([str(tmp_path / "runs"), "--out", str(tmp_path / "out")], capsys)
    assert not (tmp_path / "out").exists()


def test_the_others_are_reported(
    tmp_path: Path, write: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    damages = (broken_line, wrong_type, unknown_task, not_text, broken_items, unfinished)
    write.segmentation_run(tmp_path / "runs" / "sound", "erm", 0)
    for damage in damages:
        damage(write.segmentation_run(tmp_path / "runs" / damage.__name__, "kd", 0))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs" / "link").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("COLUMNS", "1000")
    main([str(tmp_path / "runs"), "--out", str(tmp_path / "out"), "--resamples", "100"])
    printed = capsys.readouterr().out
    skipped = [line for line in printed.splitlines() if line.startswith("skipped: ")]
    assert len(skipped) == len(damages) + 1
    for name in (*(damage.__name__ for damage in damages), "link"):
        assert sum(f"/{name}" in line for line in skipped) == 1
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert page.count("<li>skipped: ") == len(skipped)


def test_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    out = ["--out", str(tmp_path / "out")]
    assert "no run found" in fails_in_one_line([str(tmp_path / "empty"), *out], capsys)
    assert "does not exist" in fails_in_one_line([str(tmp_path / "nowhere"), *out], capsys)
    assert not (tmp_path / "out").exists()


def test_options_that_cannot_be(tmp_path: Path, write: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "is not a folder" in fails_in_one_line([str(tmp_path / "runs"), "--out", str(out)], capsys)
    assert (tmp_path / "file").read_text() == "mine"
    assert "--resamples=3" in fails_in_one_line([str(tmp_path / "runs"), "--resamples", "3"], capsys)
    assert "use 100000 or fewer" in fails_in_one_line([str(tmp_path / "runs"), "--resamples", "2147483647"], capsys)
    message = fails_in_one_line([str(tmp_path / "runs"), "--reference", "kd"], capsys)
    assert "no run of 'kd' to compare with; there are: erm" in message
