import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from common.evaluation.unknown import ODIN_STEP, ODIN_TEMPERATURE, SCORES, detection, odin


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("known", "unknown"), [(400, 300), (5, 900), (700, 3), (1, 1)])
def test_as_scikit_learn(known: int, unknown: int, ties: bool) -> None:
    rng = np.random.default_rng(known + ties)
    first, second = rng.normal(0, 1, known), rng.normal(0.8, 1.3, unknown)
    if ties:
        first, second = first.round(0), second.round(0)
    labels, scores = np.repeat([0, 1], [known, unknown]), np.concatenate([first, second])
    found = detection(first, second)
    assert found["auroc"] == pytest.approx(roc_auc_score(labels, scores))
    assert found["ap"] == pytest.approx(average_precision_score(labels, scores))
    mistaken, hit, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert found["fpr95"] == pytest.approx(mistaken[hit >= 0.95].min())


def test_by_hand_and_without_one_kind() -> None:
    assert detection([0.1, 0.3], [0.2, 0.4]) == pytest.approx({"auroc": 0.75, "ap": (1 + 2 / 3) / 2, "fpr95": 0.5})
    assert detection([], [1.0]) == detection([1.0], []) == {}


def test_scores_by_hand() -> None:
    logits = torch.tensor([[0.0, np.log(3.0)]])
    values = {name: float(score(logits)) for name, score in SCORES.items()}
    entropy = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert values == pytest.approx({"max_softmax": 0.25, "entropy": entropy, "energy": -np.log(4)}, rel=1e-5)


@pytest.mark.parametrize("shape", [(5, 3), (2, 4, 6, 7)])
def test_strange_positions_score_higher_and_each_has_a_score(shape: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(shape, generator=generator)
    sure = 10 * logits
    for score in SCORES.values():
        assert score(logits).shape == shape[:1] + shape[2:]
        assert float(score(sure).mean()) < float(score(logits).mean())


def test_odin_moves_the_input_towards_its_prediction() -> None:
    weights = torch.tensor([[1.0, -2.0], [-1.0, 0.5]])

    def logits(x: Tensor) -> Tensor:
        return x @ weights.T

    inputs = torch.tensor([[0.7, 0.2], [1.0, 0.0]])
    moved = torch.tensor([[0.7 + ODIN_STEP, 0.2 - ODIN_STEP], [1.0, 0.0]])  # the second is at the edge of its range
    expected = 1 - (logits(moved) / ODIN_TEMPERATURE).softmax(dim=1).amax(dim=1)
    torch.testing.assert_close(odin(logits, inputs), expected, rtol=0, atol=1e-7)
    frames = odin(lambda x: logits(x / 255), 255 * inputs, 0, 255)
    torch.testing.assert_close(frames, expected, rtol=0, atol=1e-6)
