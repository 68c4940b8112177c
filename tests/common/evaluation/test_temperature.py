import pytest
import torch
import torch.nn.functional as F

from common.evaluation.temperature import HIGHEST, LOWEST, LogitSample, fit_temperature


def sampled(temperature: float, count: int = 40_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and labels drawn as their probabilities at a temperature say."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 5, generator=generator)
    labels = torch.multinomial((logits / temperature).softmax(dim=1), 1, generator=generator).squeeze(1)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 4.0])
def test_the_temperature_that_labels_were_drawn_with_is_found(temperature: float) -> None:
    logits, labels = sampled(temperature)
    assert fit_temperature(logits, labels) == pytest.approx(temperature, rel=0.04)


def test_it_is_the_best_of_a_grid() -> None:
    logits, labels = sampled(1.7, 500)
    found = fit_temperature(logits, labels)
    losses = {one: F.cross_entropy(logits / one, labels).item() for one in torch.linspace(0.5, 5, 91).tolist()}
    assert F.cross_entropy(logits / found, labels).item() <= min(losses.values()) + 1e-6


def test_what_is_always_right_or_always_wrong_stays_within_bounds() -> None:
    logits = torch.tensor([[2.0, 0.0]]).repeat(10, 1)
    assert LOWEST <= fit_temperature(logits, torch.zeros(10, dtype=torch.long)) < 2 * LOWEST
    assert fit_temperature(logits, torch.ones(10, dtype=torch.long)) == pytest.approx(HIGHEST, rel=0.01)


def test_a_sample_is_of_valid_positions_and_depends_on_the_image_alone() -> None:
    logits = torch.randn(3, 40, 50, generator=torch.Generator().manual_seed(0))
    labels = logits.argmax(dim=0)
    valid = torch.zeros(40, 50, dtype=torch.bool)
    valid[:20] = True
    labels[20:] = 255
    one, other = LogitSample(100), LogitSample(100)
    one.add(logits, labels, valid, 7)
    other.add(-logits, labels, torch.zeros_like(valid), 1)
    other.add(logits, labels, valid, 7)
    assert one.temperature() == other.temperature() is not None
    assert LogitSample().temperature() is None
    whole = LogitSample(10**6)
    whole.add(logits, labels, valid, 0)
    assert whole.temperature() == pytest.approx(
        fit_temperature(logits[:, :20].flatten(1).T, labels[:20].flatten()), rel=1e-6
    )
