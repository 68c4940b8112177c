import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from common.evaluation.calibration import FINE, FINE_BINS, Calibration, calibration_counts, measure_calibration
from common.evaluation.reliability import BINS, accuracy, expected_calibration_error, of_equal_mass, reliability


def some(shape: tuple[int, ...], seed: int = 0, scale: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(shape, generator=generator)
    positions = shape[:1] + shape[2:]
    labels = torch.randint(shape[1], positions, generator=generator)
    return logits, labels, torch.rand(positions, generator=generator) < 0.7


def brute_force(confidence: list[float], right: list[bool], bins: int) -> float:
    total = 0.0
    for number in range(bins):
        low, high = number / bins, (number + 1) / bins
        inside = [i for i, value in enumerate(confidence) if low < value <= high or (number == 0 and value == 0)]
        total += abs(sum(right[i] for i in inside) - sum(confidence[i] for i in inside))
    return total / len(confidence)


def test_by_hand() -> None:
    # Confidences 0.9 (right), 0.9 (wrong), 0.65 (right): gaps |1 - 1.8| and |1 - 0.65|.
    logits = torch.tensor([[0.9, 0.1], [0.1, 0.9], [0.65, 0.35]]).log()
    counts = calibration_counts(logits, torch.tensor([0, 0, 0]), bins=5)
    np.testing.assert_allclose(counts, [[0, 0, 0], [0, 0, 0], [0, 0, 0], [1, 0.65, 1], [2, 1.8, 1]], rtol=1e-6)
    assert expected_calibration_error(counts) == pytest.approx(1.15 / 3)
    assert accuracy(counts) == pytest.approx(2 / 3)
    confidence, hits = reliability(counts)
    np.testing.assert_allclose(confidence, [np.nan, np.nan, np.nan, 0.65, 0.9], rtol=1e-6)
    np.testing.assert_allclose(hits, [np.nan, np.nan, np.nan, 1.0, 0.5])


@pytest.mark.parametrize("bins", [1, 2, 10, 15])
@pytest.mark.parametrize("shape", [(200, 2), (300, 10), (4, 3, 9, 11)])
def test_as_torchmetrics_and_by_brute_force(shape: tuple[int, ...], bins: int) -> None:
    logits, labels, valid = some(shape)
    probabilities = logits.double().softmax(dim=1).movedim(1, -1).flatten(0, -2)
    for mask in (None, valid):
        kept = torch.ones_like(labels, dtype=torch.bool) if mask is None else mask
        ours = expected_calibration_error(calibration_counts(logits.double(), labels, mask, bins))
        rows, truth = probabilities[kept.flatten()], labels[kept]
        theirs = multiclass_calibration_error(rows, truth, shape[1], n_bins=bins, norm="l1")
        assert ours == pytest.approx(theirs.item(), abs=1e-6)
        confidence, prediction = rows.max(dim=1)
        assert ours == pytest.approx(brute_force(confidence.tolist(), (prediction == truth).tolist(), bins), abs=1e-12)


def test_batches_add_up_to_the_whole() -> None:
    logits, labels, valid = some((60, 5, 4, 4))
    whole = calibration_counts(logits, labels, valid)
    parts = np.zeros_like(whole)
    for start in range(0, 60, 7):
        rows = slice(start, start + 7)
        parts += calibration_counts(logits[rows], labels[rows], valid[rows])
    np.testing.assert_allclose(parts, whole, rtol=1e-12)
    assert whole[:, 0].sum() == valid.sum()


def test_edges_belong_to_the_bin_below_and_certainty_to_the_last() -> None:
    # One half exactly, and exactly 1.
    logits = torch.tensor([[0.0, 0.0], [0.0, 200.0]], dtype=torch.float64)
    np.testing.assert_array_equal(calibration_counts(logits, torch.tensor([0, 1]), bins=2), [[1, 0.5, 1], [1, 1, 1]])


def test_resampled_tables_are_scored_at_once() -> None:
    tables = np.stack([calibration_counts(*some((50, 4), seed)) for seed in range(6)]).reshape(2, 3, 15, 3)
    for function in (expected_calibration_error, accuracy):
        scores = function(tables)
        assert scores.shape == (2, 3)
        assert scores[1, 2] == function(tables[1, 2])


def test_a_table_weighted_by_a_whole_number_is_the_data_repeated() -> None:
    logits, labels, _ = some((40, 4))
    twice = calibration_counts(torch.cat([logits, logits]), torch.cat([labels, labels]))
    np.testing.assert_allclose(2 * calibration_counts(logits, labels), twice, rtol=1e-12)


def test_half_precision_is_counted_in_float32() -> None:
    logits, labels, _ = some((100, 4))
    half = logits.to(torch.bfloat16)
    np.testing.assert_array_equal(calibration_counts(half, labels), calibration_counts(half.float(), labels))


def test_no_position_has_no_score() -> None:
    logits, labels, valid = some((3, 2))
    counts = calibration_counts(logits, labels, torch.zeros_like(valid))
    assert np.isnan(expected_calibration_error(counts))
    assert np.isnan(accuracy(counts))


def test_what_does_not_fit_is_refused() -> None:
    logits, labels, valid = some((3, 2, 5))
    with pytest.raises(ValueError, match=r"labels must be \(3, 5\)"):
        calibration_counts(logits, labels[:, :4])
    with pytest.raises(ValueError, match=r"valid must be \(3, 5\)"):
        calibration_counts(logits, labels, valid[:2])
    with pytest.raises(ValueError, match="bins=0"):
        calibration_counts(logits, labels, bins=0)
    with pytest.raises(ValueError, match=r"expected \[..., bins, 3\]"):
        accuracy(np.zeros((4, 2)))


def slow(rows: Tensor, truth: Tensor) -> dict[str, float]:
    """All of it, position by position, in float64."""
    confidences, hits, losses, briers = [], [], [], []
    for row, label in zip(rows.double().softmax(dim=1).tolist(), truth.tolist(), strict=True):
        confidences.append(max(row))
        hits.append(row.index(max(row)) == label)
        losses.append(-np.log(row[label]))
        briers.append(sum((value - (index == label)) ** 2 for index, value in enumerate(row)))
    groups: dict[int, list[int]] = {}
    for index, value in enumerate(confidences):
        groups.setdefault(min(int(FINE * -np.log2(1 - value)), FINE_BINS - 1), []).append(index)
    merged: dict[int, list[int]] = {}
    before = 0
    for cell in sorted(groups):
        middle = (before + len(groups[cell]) / 2) / len(confidences)
        merged.setdefault(int(BINS * middle), []).extend(groups[cell])
        before += len(groups[cell])
    gaps = sum(abs(sum(hits[i] - confidences[i] for i in inside)) for inside in merged.values())
    return {
        "ece": brute_force(confidences, hits, BINS),
        "ece_equal_mass": gaps / len(confidences),
        "nll": float(np.mean(losses)),
        "brier": float(np.mean(briers)),
    }


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("shape", [(200, 2), (300, 10), (4, 3, 9, 11)])
def test_a_stream_is_scored_as_by_brute_force(shape: tuple[int, ...], temperature: float) -> None:
    logits, labels, valid = some(shape)
    found = Calibration()
    for start in range(0, len(logits), 3):
        part = slice(start, start + 3)
        found += measure_calibration(logits[part].double(), labels[part], valid[part], temperature)
    rows = logits.double().movedim(1, -1).flatten(0, -2)[valid.flatten()] / temperature
    assert found.scores() == pytest.approx(slow(rows, labels[valid]), abs=1e-9)
    assert found.table == pytest.approx(calibration_counts(logits.double() / temperature, labels, valid))


def test_bins_of_equal_mass_are_nearly_those_of_sorted_confidences() -> None:
    logits, labels, _ = some((20_000, 4))
    found = measure_calibration(logits, labels)
    confidence, prediction = logits.double().softmax(dim=1).max(dim=1)
    order = confidence.argsort()
    right = (prediction == labels)[order].double()
    exact = sum(
        abs(float((chunk_right - chunk).sum()))
        for chunk, chunk_right in zip(confidence[order].chunk(BINS), right.chunk(BINS), strict=True)
    )
    assert found.scores()["ece_equal_mass"] == pytest.approx(exact / 20_000, abs=2e-3)
    masses = of_equal_mass(found.fine)[:, 0]
    assert masses.sum() == 20_000
    assert masses.max() < 2 * masses.min()


def test_certain_predictions_are_counted_and_nothing_has_no_score() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0]])
    found = measure_calibration(logits, torch.tensor([0, 0]))
    assert found.fine[-1].tolist() == [2.0, 2.0, 1.0]
    assert found.scores() == pytest.approx({"ece": 0.5, "ece_equal_mass": 0.5, "nll": 500.0, "brier": 1.0})
    assert Calibration().scores() == {}
    nothing = measure_calibration(logits, torch.tensor([0, 0]), torch.tensor([False, False]))
    assert nothing.scores() == {}
