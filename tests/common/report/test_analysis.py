import csv
import io
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.report.analysis import analyse
from common.report.results import Domain
from common.report.table import to_csv
from common.runs.folder import Run
from common.runs.items import item_key

Rows = dict[tuple[str, str], dict[str, str]]


def table(runs: Path) -> tuple[Rows, str]:
    """The rows by (target, method), and everything to be wary of."""
    analysis = analyse([runs], resamples=400)
    rows = {(row["target"], row["method"]): row for row in csv.DictReader(io.StringIO(to_csv(analysis)))}
    return rows, "\n".join([*analysis.notes, *(f"skipped: {line}" for line in analysis.skipped)])


def unseen_scores(runs: Path) -> list[float]:
    return [
        record.value
        for path in sorted(runs.iterdir())
        for record in Run(path).records()
        if record.split == "test" and not record.seen and record.metric == "miou"
    ]


def test_headline_is_the_target_where_it_was_measured(tmp_path: Path, write: SimpleNamespace) -> None:
    domains = (("day", True, 0.1), ("dusk", False, 0.4), ("fog", False, 0.1))
    for seed in range(2):
        write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed, domains)
    rows, _ = table(tmp_path / "runs")
    values = np.reshape(unseen_scores(tmp_path / "runs"), (2, 2))
    assert float(rows["dusk", "erm"]["unseen"]) == pytest.approx(values[:, 0].mean(), rel=1e-5)
    fog, interval = analyse([tmp_path / "runs"], resamples=400).tables[0].domains["erm"][Domain("fog", seen=False)]
    assert fog == pytest.approx(values[:, 1].mean(), rel=1e-5)
    assert interval is not None


def test_equal_methods_differ_by_exactly_zero(tmp_path: Path, write: SimpleNamespace) -> None:
    for seed in range(3):
        run = write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed)
        write.renamed(run, tmp_path / "runs" / f"twin-{seed}", "twin")
    row = table(tmp_path / "runs")[0]["dusk", "twin"]
    assert [row[f"difference{end}"] for end in ("", "_low", "_high")] == ["0", "0", "0"]
    assert row["verdict"] == "undecided"
    assert row["probability_of_improvement"] == "0.5"


@pytest.mark.parametrize("seeds", [1, 3])
def test_few_seeds_are_named(tmp_path: Path, write: SimpleNamespace, seeds: int) -> None:
    for seed in range(seeds):
        write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed)
        write.segmentation_run(tmp_path / "runs" / f"kd-{seed}", "kd", seed)
    rows, notes = table(tmp_path / "runs")
    assert ("one seed proves nothing" in notes) == (seeds == 1)
    assert ("fewer than 5 seeds" in notes) == (seeds == 3)
    assert (rows["dusk", "kd"]["verdict"] == "one seed") == (seeds == 1)
    assert (rows["dusk", "kd"]["p_value"] == "") == (seeds == 1)
    assert float(rows["dusk", "kd"]["difference_low"]) < float(rows["dusk", "kd"]["difference_high"])


def test_no_share_has_an_interval_beyond_what_shares_can_be(tmp_path: Path, write: SimpleNamespace) -> None:
    for seed, errors in enumerate((0.0, 0.9)):
        for method in ("erm", "kd"):
            domains = (("day", True, 0.1), ("dusk", False, errors if method == "erm" else 0.3))
            write.segmentation_run(tmp_path / "runs" / f"{method}-{seed}", method, seed, domains)
    rows, _ = table(tmp_path / "runs")
    assert (rows["dusk", "erm"]["unseen_low"], rows["dusk", "erm"]["unseen_high"]) == ("0", "1")
    assert float(rows["dusk", "kd"]["difference_high"]) > 1  # a difference says as much as it knows


def test_without_erm_the_table_says_how_to_get_differences(tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_run(tmp_path / "runs" / "kd-0", "kd", 0)
    rows, notes = table(tmp_path / "runs")
    assert rows["dusk", "kd"]["difference"] == rows["dusk", "kd"]["relative_cost"] == ""
    assert float(rows["dusk", "kd"]["unseen"]) > 0
    assert "method=erm" in notes


def test_what_cannot_be_compared_is_skipped_and_named(tmp_path: Path, write: SimpleNamespace) -> None:
    runs = tmp_path / "runs"
    run = write.segmentation_run(runs / "erm-0", "erm", 0)
    write.renamed(run, runs / "erm-again", "erm")
    unfinished = Run(runs / "kd-0")
    unfinished.path.mkdir()
    unfinished.config_path.write_text("method: kd\n")
    unfinished.append(record for record in run.records() if record.split == "progress")
    rows, notes = table(runs)
    assert list(rows) == [("dusk", "erm")]
    assert rows["dusk", "erm"]["seeds"] == "1"
    assert re.search(r"skipped: \S+kd-0: not finished", notes)
    assert re.search(r"skipped: \S+erm-again: erm with seed 0 is already there", notes)


def test_differences_without_items_have_no_interval(tmp_path: Path, write: SimpleNamespace) -> None:
    for seed in range(2):
        write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed)
        write.segmentation_run(tmp_path / "runs" / f"kd-{seed}", "kd", seed, items=False)
    rows, notes = table(tmp_path / "runs")
    assert rows["dusk", "kd"]["difference"] != ""
    assert rows["dusk", "kd"]["difference_low"] == ""
    assert rows["dusk", "kd"]["verdict"] == "no interval"
    assert "no intervals for kd: items.npz is missing" in notes


def test_items_that_contradict_the_record_are_not_used(tmp_path: Path, write: SimpleNamespace) -> None:
    first = write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    other = write.segmentation_run(tmp_path / "other", "erm", 1)
    first.save_items(other.items())
    rows, notes = table(tmp_path / "runs")
    assert rows["dusk", "erm"]["unseen_low"] == ""
    assert "does not give the recorded scores" in notes


def test_unequal_step_budgets_are_named(tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0, steps=400)
    write.segmentation_run(tmp_path / "runs" / "kd-0", "kd", 0, steps=800)
    assert "no comparison at equal compute (erm 400, kd 800)" in table(tmp_path / "runs")[1]


def test_averaged_weights_need_their_own_items(tmp_path: Path, write: SimpleNamespace) -> None:
    for seed in range(2):
        write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed)
        both = (("last", 1.0), ("averaged", 0.5))
        run = write.segmentation_run(tmp_path / "runs" / f"kd-{seed}", "kd", seed, selections=both)
        own = item_key("confusion", "dusk", seen=False, selection="averaged")
        run.save_items({key: value for key, value in run.items().items() if key != own})
    rows, notes = table(tmp_path / "runs")
    assert rows["dusk", "kd"]["difference_low"] != ""
    assert rows["dusk", "kd (averaged)"]["difference_low"] == ""
    assert "no intervals for kd (averaged)" in notes


def test_a_single_choice_of_weights_owns_the_plain_items(tmp_path: Path, write: SimpleNamespace) -> None:
    write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    run = write.segmentation_run(tmp_path / "runs" / "kd-0", "kd", 0, selections=(("averaged", 1.0),))
    run.save_items({key.removesuffix("|averaged"): value for key, value in run.items().items()})
    assert table(tmp_path / "runs")[0]["dusk", "kd (averaged)"]["difference_low"] != ""


def test_targets_are_resampled_independently(tmp_path: Path, write: SimpleNamespace) -> None:
    for method in ("erm", "kd"):
        for seed in range(4):
            run = write.segmentation_run(tmp_path / "runs" / f"{method}-{seed}", method, seed)
            again = write.renamed(run, tmp_path / "runs" / f"{method}-{seed}-again", method)
            again.record_path.write_text(again.record_path.read_text().replace('"target": "dusk"', '"target": "other"'))
    rows, _ = table(tmp_path / "runs")
    width = {
        target: float(rows[target, "kd"]["difference_high"]) - float(rows[target, "kd"]["difference_low"])
        for target in ("dusk", "other", "*")
    }
    assert rows["*", "kd"]["difference"] == rows["dusk", "kd"]["difference"]
    assert width["*"] < 0.85 * width["dusk"]  # shared draws would leave it as wide; independent ones give 0.71


def test_validation_stands_in_for_an_untested_source(tmp_path: Path, write: SimpleNamespace) -> None:
    run = write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    text = run.record_path.read_text().splitlines()
    seen = [line for line in text if '"split": "test"' in line and '"seen": true' in line]
    kept = [line for line in text if line not in seen]
    validation = [line.replace('"split": "test"', '"split": "validation"') for line in seen]
    run.record_path.write_text("\n".join([*validation, *kept]) + "\n")
    expected = next(r.value for r in run.records() if r.split == "validation" and r.metric == "miou")
    assert float(table(tmp_path / "runs")[0]["dusk", "erm"]["seen"]) == pytest.approx(expected, rel=1e-5)


def test_networks_and_sources_are_never_mixed(tmp_path: Path, write: SimpleNamespace) -> None:
    run = write.segmentation_run(tmp_path / "runs" / "erm-0", "erm", 0)
    write.segmentation_run(tmp_path / "runs" / "kd-0", "kd", 0)
    other = Run(tmp_path / "runs" / "kd-0")
    other.record_path.write_text(other.record_path.read_text().replace("unet_resnet18", "fpn_resnet50"))
    analysis = analyse([tmp_path / "runs"], resamples=100)
    assert [table.setting.network for table in analysis.tables] == ["fpn_resnet50", "unet_resnet18"]
    assert all(row.difference is None for table in analysis.tables for row in table.rows)
    assert run.finished


def test_any_method_can_be_the_reference(tmp_path: Path, write: SimpleNamespace) -> None:
    for seed in range(3):
        both = (("last", 1.0), ("averaged", 0.5))
        for name in ("erm", "kd"):
            write.segmentation_run(tmp_path / "runs" / f"{name}-{seed}", name, seed, selections=both)
    analysis = analyse([tmp_path / "runs"], reference="erm (averaged)", resamples=200)
    rows = {row.label: row for row in analysis.tables[0].rows}
    assert [label for label, row in rows.items() if row.is_reference] == ["erm (averaged)"]
    assert next(iter(rows)) == "erm (averaged)"
    against_last = {row.label: row for row in analyse([tmp_path / "runs"], resamples=200).tables[0].rows}
    difference, back = rows["erm"].difference, against_last["erm (averaged)"].difference
    assert difference is not None
    assert back is not None
    assert difference.value == -back.value != 0
    assert difference.interval == pytest.approx((-back.interval.high, -back.interval.low))
    assert difference.p_value == back.p_value


def test_runs_of_other_seeds_are_compared_without_pairs(tmp_path: Path, write: SimpleNamespace) -> None:
    for seed in range(3):
        run = write.segmentation_run(tmp_path / "runs" / f"erm-{seed}", "erm", seed)
        write.renamed(run, tmp_path / "runs" / f"same-{seed}", "same")
        write.segmentation_run(tmp_path / "runs" / f"other-{seed}", "other", seed + 7)
    rows, _ = table(tmp_path / "runs")
    assert rows["dusk", "same"]["difference"] == rows["dusk", "same"]["difference_high"] == "0"
    width = [float(rows["dusk", "other"][f"difference_{end}"]) for end in ("low", "high")]
    assert width[0] < float(rows["dusk", "other"]["difference"]) < width[1]


def test_unequal_numbers_of_runs_are_not_compared_over_targets(tmp_path: Path, write: SimpleNamespace) -> None:
    # Twins, one of which lacks a seed on the easier target: pooling runs would show a difference.
    for target, errors in (("dusk", 0.1), ("fog", 0.6)):
        for seed in range(3):
            domains = (("day", True, 0.1), (target, False, errors))
            run = write.segmentation_run(
                tmp_path / "runs" / target / f"erm-{seed}", "erm", seed, domains, target=target
            )
            write.renamed(run, tmp_path / "runs" / target / f"twin-{seed}", "twin")
            if (target, seed) != ("dusk", 2):
                write.renamed(run, tmp_path / "runs" / target / f"short-{seed}", "short")
    rows, notes = table(tmp_path / "runs")
    assert rows["*", "twin"]["difference"] == "0"
    assert rows["*", "short"]["difference"] == ""
    assert rows["dusk", "short"]["difference"] != ""
    assert ": short and erm have other numbers of seeds on some targets" in notes
