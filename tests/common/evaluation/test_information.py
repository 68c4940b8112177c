import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from common.evaluation.information import PENALTY, _fit, probe


def blobs(count: int, classes: int, apart: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    centres = apart * torch.randn(classes, 6, generator=generator)
    return centres[labels] + torch.randn(count, 6, generator=generator), labels


def test_what_is_apart_is_told_apart_and_fully_known() -> None:
    found = probe(*blobs(900, 3, 20.0))
    assert found is not None
    assert found.accuracy == 1.0
    assert found.entropy == pytest.approx(np.log(3), abs=1e-3)
    assert found.information == pytest.approx(np.log(3), abs=0.05)
    assert found.classes == 3


def test_what_is_the_same_cannot_be_told_and_nothing_is_known() -> None:
    features, labels = blobs(4000, 2, 0.0)
    found = probe(features, labels)
    assert found is not None
    assert abs(found.accuracy - 0.5) < 0.05
    assert found.information < 0.01


def test_the_bound_is_the_information_where_a_line_is_all_there_is() -> None:
    # Two Gaussians at ±1: the posterior is logistic in f, so that the probe can be exact.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(40_000) % 2
    values = 2.0 * labels - 1 + torch.randn(40_000, generator=generator)
    grid = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    density = 0.5 * (torch.exp(-((grid - 1) ** 2) / 2) + torch.exp(-((grid + 1) ** 2) / 2)) / np.sqrt(2 * np.pi)
    exact = -float(torch.trapezoid(density * density.log(), grid)) - 0.5 * np.log(2 * np.pi * np.e)
    found = probe(values[:, None], labels)
    assert found is not None
    assert found.information == pytest.approx(exact, abs=0.01)


def test_a_rare_class_counts_as_much_as_a_frequent_one() -> None:
    labels = torch.cat([torch.zeros(980), torch.ones(20)]).long()
    found = probe(torch.randn(1000, 3, generator=torch.Generator().manual_seed(0)), labels)
    assert found is not None
    assert found.accuracy < 0.6


def test_the_probe_is_scikit_learns() -> None:
    features, labels = blobs(300, 4, 1.0)
    given = features.double()
    ours = _fit(given, labels, 4)
    # Its objective is a sum over samples, half the square.
    theirs = LogisticRegression(C=1 / (2 * PENALTY * 300), tol=1e-10, max_iter=2000).fit(given.numpy(), labels.numpy())
    expected = theirs.predict_proba(given.numpy())
    assert ours(given).softmax(dim=1).detach().numpy() == pytest.approx(expected, abs=2e-3)


def test_nothing_to_tell_apart_has_no_probe() -> None:
    features = torch.randn(10, 2)
    assert probe(features, torch.zeros(10, dtype=torch.long)) is None
    assert probe(features, torch.tensor([1] * 9 + [5])) is None


def test_samples_of_a_group_stay_together() -> None:
    # What tells groups apart says nothing of labels that are drawn a group at a time.
    generator = torch.Generator().manual_seed(0)
    groups = torch.arange(40).repeat_interleave(30)
    labels = torch.randint(2, (40,), generator=generator)[groups]
    features = torch.randn(40, 60, generator=generator)[groups] + 0.1 * torch.randn(1200, 60, generator=generator)
    alone, together = probe(features, labels), probe(features, labels, groups)
    assert alone is not None and together is not None
    assert alone.accuracy > 0.95
    assert together.accuracy < 0.75


def test_it_is_drawn_from_its_seed() -> None:
    features, labels = blobs(200, 2, 0.7)
    assert probe(features, labels) == probe(features, labels)
    assert probe(features, labels) != probe(features, labels, seed=1)
