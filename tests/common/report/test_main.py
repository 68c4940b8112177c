import base64
import csv
import dataclasses
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from common.report import theme
from common.report.main import main
from common.runs.folder import Run

Rows = dict[tuple[str, str], dict[str, str]]


def report(runs: Path, out: Path) -> tuple[Rows, str]:
    """Run the program; the CSV file by (target, method), and the page."""
    main([str(runs), "--out", str(out), "--resamples", "400"])
    with (out / "report.csv").open() as file:
        rows = {(row["target"], row["method"]): row for row in csv.DictReader(file)}
    return rows, (out / "report.html").read_text(encoding="utf-8")


def recorded(runs: Path, method: str, *, seen: bool, metric: str = "miou", selection: str = "last") -> list[float]:
    return [
        record.value
        for path in sorted(runs.glob(f"**/{method}-*"))
        for record in Run(path).records()
        if (record.split, record.seen, record.metric, record.selection) == ("test", seen, metric, selection)
    ]


class Page(HTMLParser):
    """Checks that tags close in order; keeps images, links and table cells."""

    VOID = frozenset({"meta", "img", "source", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.headings: list[str] = []
        self.charts = re.findall(r"<svg role=.*?</svg>", text, flags=re.DOTALL)
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.sources += [value for key in ("src", "srcset") if (value := named.get(key))]
        self.links += [value for key in ("href", "action") if (value := named.get(key))]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")
        if tag in ("h2", "h3"):
            self.headings.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "td" in self.open or "th" in self.open:
            self.cells[-1] += data
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings[-1] += data


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory, write: SimpleNamespace) -> tuple[Path, Rows, Page]:
    runs = tmp_path_factory.mktemp("segmentation")
    write.segmentation_runs(runs / "runs")
    rows, page = report(runs / "runs", runs / "out")
    return runs / "runs", rows, Page(page)


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory, write: SimpleNamespace) -> tuple[Path, Rows, Page]:
    runs = tmp_path_factory.mktemp("policies")
    write.policy_runs(runs / "runs")
    rows, page = report(runs / "runs", runs / "out")
    return runs / "runs", rows, Page(page)


def test_segmentation_scores_are_those_of_the_records(segmentation: tuple[Path, Rows, Page]) -> None:
    runs, rows, _ = segmentation
    assert list(rows) == [("dusk", "erm"), ("dusk", "kd"), ("dusk", "kd (averaged)")]
    reference = np.mean(recorded(runs, "erm", seen=False))
    for label, method, selection in (
        ("erm", "erm", "last"),
        ("kd", "kd", "last"),
        ("kd (averaged)", "kd", "averaged"),
    ):
        row = rows["dusk", label]
        seen, unseen = (recorded(runs, method, seen=side, selection=selection) for side in (True, False))
        assert float(row["seen"]) == pytest.approx(np.mean(seen), rel=1e-5)
        assert float(row["unseen"]) == pytest.approx(np.mean(unseen), rel=1e-5)
        assert float(row["gap"]) == pytest.approx(np.mean(seen) - np.mean(unseen), rel=1e-4)
        assert float(row["unseen_standard_error"]) == pytest.approx(stats.sem(unseen), rel=1e-5)
        assert row["seeds"] == "3"
        if method != "erm":
            assert float(row["difference"]) == pytest.approx(np.mean(unseen) - reference, rel=1e-4)


def test_segmentation_differences_have_intervals_and_costs(segmentation: tuple[Path, Rows, Page]) -> None:
    _, rows, _ = segmentation
    for label in ("kd", "kd (averaged)"):
        row = rows["dusk", label]
        assert 0 < float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])
        assert row["probability_of_improvement"] == "1"
        assert row["verdict"] == "better (few seeds)"
        assert row["relative_cost"] == "1.5"
    assert rows["dusk", "kd (averaged)"]["difference"] != rows["dusk", "kd"]["difference"]
    assert rows["dusk", "erm"]["difference"] == ""


def test_other_metrics_stand_beside_the_main_one(segmentation: tuple[Path, Rows, Page]) -> None:
    runs, rows, page = segmentation
    for metric in ("dice", "pixel_accuracy", "iou/agent"):
        expected = np.mean(recorded(runs, "kd", seen=False, metric=metric))
        assert float(rows["dusk", "kd"][f"unseen_{metric}"]) == pytest.approx(expected, rel=1e-5)
        assert f"{100 * expected:.1f}" in page.cells


def test_page_is_one_file_with_every_part(segmentation: tuple[Path, Rows, Page]) -> None:
    runs, rows, page = segmentation
    assert page.headings[1:] == [
        "Seen against unseen",
        "Where it fails: domains",
        "Predictions",
        "Learning curves",
        "Other metrics on unseen domains",
        "Methods and conditions",
        "Runs, and how to train one again",
    ]
    assert not page.links
    kinds, pictures = zip(*(source.split(",", 1) for source in page.sources), strict=True)
    assert set(kinds) == {"data:image/webp;base64"}
    drawn = [Image.open(io.BytesIO(base64.b64decode(data))).convert("L") for data in pictures]
    assert len(drawn) == 3 * (2 + 2 * 3)  # images with their truth; predictions and errors of three rows
    assert max(np.asarray(one).std() for one in drawn) > 5
    assert all(max(one.size) > theme.SIDE // 2 for one in drawn)
    assert len([cell for cell in page.cells if re.fullmatch(r"\d+\.\d % wrong", cell)]) == 9
    assert "<code>kdseg-train --config-dir RUN" in (runs.parent / "out" / "report.html").read_text()
    # Differences, seen against unseen, profiles, bars and curves.
    assert len(page.charts) == 5
    clips = [name for chart in page.charts for name in re.findall(r'<clipPath id="([^"]+)"', chart)]
    assert clips and len(clips) == len(set(clips))  # one page: a name used twice would cut a chart by another's frame
    assert all('aria-label="' in chart and "var(--ink)" in chart and "#010203" not in chart for chart in page.charts)
    assert f"{100 * float(rows['dusk', 'kd']['seen']):.1f}" in page.cells


def test_policies_are_aggregated_by_interquartile_mean(policies: tuple[Path, Rows, Page]) -> None:
    runs, rows, page = policies
    every = []
    for game in ("coinrun", "ninja"):
        values = recorded(runs / game, "kd", seen=False, metric="normalized_return")
        per_run = np.reshape(values, (4, 2)).mean(1)  # two unseen domains count equally
        every += per_run.tolist()
        assert float(rows[game, "kd"]["unseen"]) == pytest.approx(stats.trim_mean(per_run, 0.25), rel=1e-5)
        raw = np.reshape(recorded(runs / game, "kd", seen=False, metric="return"), (4, 2)).mean(1)
        assert float(rows[game, "kd"]["unseen_return"]) == pytest.approx(stats.trim_mean(raw, 0.25), rel=1e-5)
    assert float(rows["*", "kd"]["unseen"]) == pytest.approx(stats.trim_mean(every, 0.25), rel=1e-5)
    assert rows["*", "kd"]["targets"] == "2"
    assert rows["*", "kd"]["unseen_return"] == ""  # games share no unit
    assert page.headings.count("What the policy sees") == 2
    written = (runs.parent / "out" / "report.html").read_text()
    assert "PPO 9.6 on training levels and 8.7 on all" in written  # CoinRun's
    assert "PPO 7.7 on training levels and 5.8 on all" in written  # Ninja's


def test_policies_have_intervals_and_holm_corrected_verdicts(policies: tuple[Path, Rows, Page]) -> None:
    _, rows, _ = policies
    for target in ("coinrun", "ninja", "*"):
        row = rows[target, "kd"]
        assert float(row["difference_low"]) < float(row["difference"]) < float(row["difference_high"])
        assert float(row["probability_low"]) <= float(row["probability_of_improvement"])
    raw = [float(rows[game, "kd"]["p_value"]) for game in ("coinrun", "ninja")]
    adjusted = [float(rows[game, "kd"]["p_value_holm"]) for game in ("coinrun", "ninja")]
    assert min(adjusted) == pytest.approx(min(1, 2 * min(raw)), rel=1e-4)
    width = {t: float(rows[t, "kd"]["difference_high"]) - float(rows[t, "kd"]["difference_low"]) for t, _ in rows}
    assert width["*"] < max(width["coinrun"], width["ninja"])  # more runs say more


@pytest.mark.parametrize("width", [80, 120])
def test_terminal_shows_every_number(
    tmp_path: Path,
    write: SimpleNamespace,
    width: int,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seed in range(2):
        run = write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed)
        name = "kddg_sdd_augkd_with_a_long_name"
        write.renamed(run, tmp_path / "runs" / f"long-{seed}", name)
    monkeypatch.setenv("COLUMNS", str(width))
    rows, _ = report(tmp_path / "runs", tmp_path / "out")
    printed = capsys.readouterr().out
    table = printed.split("unseen: dusk")[0]
    assert max(len(line) for line in table.splitlines()) <= width
    assert "…" not in printed
    for row in rows.values():
        for name in ("seen", "unseen", "gap"):
            assert f"{100 * float(row[name]):.1f}" in table
    assert "+0.0 [+0.0, +0.0]" in table
    assert ("verdict" in table) == (width >= 100)


def test_names_from_files_are_escaped(tmp_path: Path, write: SimpleNamespace) -> None:
    run = write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    write.renamed(run, tmp_path / "runs" / "odd", "<script>alert(1)</script>[bold]")
    _, page = report(tmp_path / "runs", tmp_path / "out")
    assert page.count("<script") == 1  # our own
    assert "<script>alert" not in page
    assert "<script>alert(1)</script>[bold]" in Page(page).cells


def test_same_runs_same_report(tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    write.segmentation_run(tmp_path / "runs" / "kd-0", "kd", 0)
    assert report(tmp_path / "runs", tmp_path / "a") == report(tmp_path / "runs", tmp_path / "b")


def test_every_setting_is_answered_at_the_top(write: SimpleNamespace, tmp_path: Path) -> None:
    """Also where two differ in nothing but the network, which their short names leave out."""
    for network in ("unet_small", "unet_large"):
        write.segmentation_runs(tmp_path / "runs" / network)
        for path in (tmp_path / "runs" / network).iterdir():
            records = [dataclasses.replace(record, network=network) for record in Run(path).records()]
            Run(path).record_path.unlink()
            Run(path).append(records)
    _, page = report(tmp_path / "runs", tmp_path / "report")
    top = page[page.index("<h1>") : page.index("<h2>")]
    assert top.count('<p class="headline">') == 2
