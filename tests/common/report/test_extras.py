"""What was measured beside the test, on the page and for a paper."""

import csv
import dataclasses
import io
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from common.report.analysis import Analysis, analyse
from common.report.extras import attacked, robustness, unknown, why
from common.report.main import main
from common.report.paper import to_latex, to_markdown
from common.report.sentences import sentences
from common.runs.folder import Run

SHIFT = {"erm": 0.0, "kd": 0.05}


def measured(run: Run) -> None:
    """Give a run further measures, whose values follow from its method and seed."""
    first = next(row for row in run.records() if row.split == "test" and row.selection == "last")
    rows = []

    def add(condition: str, domain: str, metric: str, value: float, n: int = 12) -> None:
        seen = domain == "day"
        rows.append(
            dataclasses.replace(first, domain=domain, seen=seen, metric=metric, value=value, n=n, condition=condition)
        )

    better = SHIFT[first.method] + 0.01 * first.seed
    for domain, at in (("day", 0.8), ("dusk", 0.5)):
        add("corruption/none", domain, "miou", at)
        for severity, lost in ((1, 0.1), (3, 0.2)):
            for name, more in (("fog", 0.0), ("snow", 0.04)):
                add(f"corruption/{name}/{severity}", domain, "miou", at - lost - more + better)
        for radius in (0, 2):
            add(f"attack/pgd-10/{radius}", domain, "miou", at - 0.1 * radius + better)
        add("analysis", domain, "flatness", 0.3 - better)
        add("analysis", domain, "teacher_agreement", 0.7 + better)
    add("unknown/images", "dusk", "auroc/energy", 0.6 + better)
    add("unknown/images", "dusk", "fpr95/energy", 0.4 - better)
    add("analysis/features", "dusk", "probe/domains", 0.9 - better)
    run.append_measures([*rows, rows[0]])
    travelled = dataclasses.replace(first, split="progress", metric="weight_distance", value=2.0 + better)
    run.append([travelled])


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, write: SimpleNamespace) -> Path:
    folder: Path = tmp_path_factory.mktemp("runs")
    write.segmentation_runs(folder)
    for path in folder.iterdir():
        measured(Run(path))
    return folder


@pytest.fixture(scope="module")
def analysis(runs: Path) -> Analysis:
    return analyse([runs], resamples=200)


def test_corruptions_by_hand(analysis: Analysis) -> None:
    found = robustness(analysis.tables[0].setting)
    assert set(found) == {"erm", "kd"}  # averaged weights were not measured
    erm, kd = ({extra.name: extra for extra in found[label]} for label in ("erm", "kd"))
    seeds = np.array([0.0, 0.01, 0.02])
    assert erm["unseen, as it is"].mean == pytest.approx(0.5)
    assert erm["unseen, corrupted"].mean == pytest.approx(0.5 - 0.15 - 0.02 + seeds.mean())
    assert erm["unseen, kept"].mean == pytest.approx(np.mean((0.33 + seeds) / 0.5))
    assert kd["seen, corrupted"].difference == pytest.approx(0.05)
    assert kd["seen, corrupted"].interval == pytest.approx((0.05, 0.05))
    assert erm["seen, corrupted"].difference is None


def test_attacks_are_shown_at_their_ends_in_tables_and_words(analysis: Analysis) -> None:
    found = {extra.name: extra for extra in attacked(analysis.tables[0].setting)["kd"]}
    assert list(found) == ["pgd-10, radius 0", "pgd-10, radius 2"]
    assert found["pgd-10, radius 2"].mean == pytest.approx(0.5 - 0.2 + 0.05 + 0.01)
    assert found["pgd-10, radius 2"].difference == pytest.approx(0.05)
    written = to_markdown(analysis)
    assert "### Under attack" in written and "pgd-10, radius 2" in written


def test_intervals_are_paired_by_seed(runs: Path, tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_runs(tmp_path)
    differences = []
    for seed, value in enumerate((0.9, 0.7, 0.85)):
        for method, own in (("erm", 0.5 + 0.1 * seed), ("kd", value)):
            run = Run(tmp_path / f"{method}-{seed}")
            row = next(row for row in run.records() if row.split == "test" and row.selection == "last")
            run.append_measures(
                [
                    dataclasses.replace(
                        row, domain="dusk", seen=False, condition="unknown/images", metric="auroc/energy", value=own
                    )
                ]
            )
        differences.append(value - (0.5 + 0.1 * seed))
    (extra,) = unknown(analyse([tmp_path], resamples=200).tables[0].setting)["kd"]
    assert extra.interval == pytest.approx(tuple(stats.ttest_1samp(differences, 0).confidence_interval()))


def test_why_has_the_way_of_the_weights_and_what_was_analysed(analysis: Analysis) -> None:
    found = {extra.name: extra for extra in why(analysis.tables[0].setting)["kd"]}
    assert found["way of the weights"].mean == pytest.approx(2.06)
    assert found["loss rises around the weights, unseen"].difference == pytest.approx(-0.05)
    assert found["domains told apart, unseen"].mean == pytest.approx(0.84)


def test_a_sentence_says_whether_it_helps(analysis: Analysis) -> None:
    first, *_ = sentences(analysis.tables[0])
    row = max((row for row in analysis.tables[0].rows if row.difference), key=lambda row: row.difference.value)  # type: ignore[union-attr]
    assert first.startswith(f"{row.label} helps on dusk: +")
    assert " points over erm, 95 % interval [" in first
    assert first.endswith("at 1.50 times the training time.")


def outputs(runs: Path, out: Path, call: Any) -> dict[str, str]:
    outcome = call(main, runs, "--out", out, "--resamples", "200")
    assert (outcome.status, outcome.err) == (0, "")
    return {path.name: path.read_text() for path in out.iterdir()}


def test_every_form_has_it(runs: Path, analysis: Analysis, tmp_path: Path, call: Any) -> None:
    found = outputs(runs, tmp_path / "out", call)
    assert set(found) == {"report.html", "report.csv", "measures.csv", "report.md", "report.tex"}
    rows = list(csv.DictReader(io.StringIO(found["measures.csv"])))
    one = [row for row in rows if (row["method"], row["seed"], row["condition"]) == ("kd", "2", "corruption/snow/3")]
    assert {(row["domain"], row["seen"], row["value"]) for row in one} == {
        ("day", "true", "0.63"),
        ("dusk", "false", "0.33"),
    }
    assert len(rows) == 2 * 3 * 21  # what was measured twice stands once
    page = found["report.html"]
    for heading in ("corruptions and attacks", "unknown inputs", "Why"):
        assert re.search(rf"<h3>[^<]*{heading}</h3>", page)
    assert 'aria-label="scores under attack"' in page and 'aria-label="scores under corruptions"' in page
    assert "### Under corruptions" in found["report.md"]
    kept = f"{100 * np.mean((0.38 + np.array([0, 0.01, 0.02])) / 0.5):.1f}"
    assert kept in found["report.md"] and kept in page


def test_latex_and_markdown_hold_any_name(tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_run(tmp_path / "a", "erm", 0)
    write.segmentation_run(tmp_path / "b", r"50%_$x&{y}\z|<b>", 0)
    found = analyse([tmp_path], resamples=200)
    tex = to_latex(found)
    assert r"50\%\_\$x\&\{y\}\textbackslash{}z|<b>" in tex
    assert tex.count(r"\begin{tabular}") == tex.count(r"\end{tabular}") == 1
    lines = [line for line in to_markdown(found).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines[:4]}) == 1
    assert "<b>" not in to_markdown(found)


def test_measures_of_another_run_are_passed_over(runs: Path, tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_run(tmp_path / "a", "erm", 0)
    write.segmentation_run(tmp_path / "b", "kd", 0)
    run = Run(tmp_path / "b")
    row = next(row for row in Run(tmp_path / "a").records() if row.split == "test")
    run.append_measures([dataclasses.replace(row, condition="corruption/fog/1")])
    skipped = analyse([tmp_path], resamples=200).skipped
    assert len(skipped) == 1 and "measures.jsonl:1 is of another run" in skipped[0]
