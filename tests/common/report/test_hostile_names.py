"""Names of domains, methods and classes may hold anything; terminal, page, figures and CSV show it."""

import csv
import dataclasses
import io
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.evaluation.segmentation import confusion_matrix
from common.report.escape import in_cell, in_figure, on_page
from common.report.main import main
from common.report.results import Domain, collect
from common.runs.folder import Run
from common.runs.items import item_key
from common.text import visible

NAMES = ["=$a_$[old]", "-[/x]a|b", "\t50%7C\n\x1b[2J", "_<b>&$"]


class Text(HTMLParser):
    """The text of a page; no tag of a name's is one."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag != "b"
        if tag in ("td", "th", "h2"):
            self.cells.append("")

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def rename(run: Run, name: str) -> None:
    """Call the method, both domains, the network and a class by a name."""
    domains = {"day": name, "dusk": f"{name}2"}
    records = [
        dataclasses.replace(
            record,
            method=record.method if record.method == "erm" else name,
            network=name,
            source=[name],
            target=f"{name}2",
            domain=domains[record.domain],
            metric=f"iou/{name}" if record.metric == "iou/wall" else record.metric,
        )
        for record in run.records()
    ]
    run.record_path.unlink()
    run.append(records)
    items = {}
    for key, array in run.items().items():
        kind, *rest = key.split("|")
        items[item_key(kind, domains[rest[0]], rest[1] == "seen", *rest[2:]) if rest else kind] = array
    run.save_items(items | {"class_names": np.array([name, "agent", name])})


@pytest.mark.parametrize("name", NAMES)
def test_a_name_goes_through_every_part(
    name: str,
    tmp_path: Path,
    write: SimpleNamespace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = tmp_path / f"runs {name.replace('/', '')}"
    for method in ("erm", "kd"):
        for seed in range(2):
            rename(write.segmentation_run(runs / f"{method}-{seed}", method, seed, images=4), name)
    monkeypatch.setenv("COLUMNS", "500")
    main([str(runs), "--out", str(runs / "out"), "--resamples", "100"])
    printed = capsys.readouterr().out
    shown = visible(name)
    assert f"seg · {shown}2 · {shown} · trained on {shown}\n" in printed
    assert f"\n{shown} " in printed  # the row
    assert "\x1b" not in printed and all(one.isprintable() or one == "\n" for one in printed)
    page = Text((runs / "out" / "report.html").read_text(encoding="utf-8"))
    assert {shown, f"IoU {shown} (%)", f"{shown} (seen)"} <= set(page.cells)
    with (runs / "out" / "report.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == ["erm", in_cell(name)]
    assert rows[1]["difference_low"] != ""  # the items were found under their names
    for row in rows:
        for column in ("method", "network", "target", "source"):
            assert row[column][:1] not in ("=", "+", "-", "@", "\t")


def test_the_reference_may_have_any_name(
    tmp_path: Path, write: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write.segmentation_run(tmp_path / "runs" / "erm", "erm", 0, images=4)
    write.renamed(run, tmp_path / "runs" / "odd", "[old]$x_$")
    monkeypatch.setenv("COLUMNS", "160")
    options = ["--out", str(tmp_path / "out"), "--resamples", "100", "--reference", "[old]$x_$"]
    main([str(tmp_path / "runs"), *options])
    assert "diff to [old]$x_$ [95 %]" in capsys.readouterr().out


def test_an_error_is_one_line_whatever_is_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "a\n\x1b[31mb")])
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "\x1b" not in error and "a\\x0a\\x1b[31mb does not exist" in error


def test_selections_that_look_like_parts_of_keys(tmp_path: Path, write: SimpleNamespace) -> None:
    """A domain with a separator in it, and a choice of weights called like what keys end with."""
    run = write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0, (("a|b", True, 0.1), ("c|unseen", False, 0.4)))
    both = [
        record if record.split != "test" else dataclasses.replace(record, selection=selection)
        for record in run.records()
        for selection in (("last", "unseen") if record.split == "test" else ("last",))
    ]
    run.record_path.unlink()
    run.append(both)
    truth = np.zeros((4, 4), np.uint8)
    other = np.stack([confusion_matrix(truth, truth, 3)] * 12)
    key = item_key("confusion", "c|unseen", seen=False, selection="unseen")
    run.save_items(run.items() | {key: other})
    found = {result.name: result for result in collect([tmp_path / "runs"]).results}
    domain = Domain("c|unseen", seen=False)
    assert found["erm (unseen)"].array("confusion", domain) is not None
    assert np.array_equal(found["erm (unseen)"].array("confusion", domain), other)  # type: ignore[arg-type]
    assert not np.array_equal(found["erm"].array("confusion", domain), other)  # type: ignore[arg-type]


def test_each_way_out() -> None:
    assert visible("a\u202eb\ud800") == "a\\u202eb\\ud800"
    assert visible("é漢🙂") == "é漢🙂"
    assert in_cell("-1") == "'-1" and in_cell("1-1") == "1-1" and in_cell("\t=1") == "'\\x09=1"
    assert in_figure("_a") == " _a" and len(in_figure("x" * 900)) < 60
    assert on_page("<\x00") == "&lt;\\x00"
    # What a spreadsheet reads is what was written.
    assert next(csv.reader(io.StringIO('"' + in_cell('=a"').replace('"', '""') + '"'))) == ["'=a\""]
