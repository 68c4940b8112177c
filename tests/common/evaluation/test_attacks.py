import itertools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from common.evaluation.attacks import Attack, Attacker

KINDS: tuple[Attack, ...] = ("fgsm", "pgd", "segpgd")


def network(dense: bool, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 4, 3, padding=1)]
    return nn.Sequential(*layers, *([] if dense else [nn.AdaptiveAvgPool2d(1), nn.Flatten()])).eval()


def batch(dense: bool) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.rand(6, 3, 8, 8, generator=generator)
    labels = network(dense)(inputs).argmax(dim=1)
    valid = torch.rand(labels.shape, generator=generator) < 0.8
    return inputs, labels, valid


def test_one_step_by_hand() -> None:
    # Logits (x, -x): with label 0 the loss falls in x, so each value goes down.
    inputs = torch.tensor([[0.30], [0.05]])
    attacker = Attacker("fgsm")
    ((_, same), (_, changed)) = attacker.sweep(
        lambda x: torch.cat([x - 0.25, 0.25 - x], dim=1), inputs, torch.tensor([0, 1]), None, [0.0, 0.1]
    )
    assert torch.equal(same, inputs)
    # The second is label 1 at .05: up to .15, where it is still right, so that nothing is gained and it stays.
    torch.testing.assert_close(changed, torch.tensor([[0.20], [0.05]]))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_inputs_stay_in_the_ball_and_in_their_range_and_accuracy_never_rises(kind: Attack, dense: bool) -> None:
    model, (inputs, labels, valid) = network(dense), batch(dense)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    radii = [0.0, 0.004, 0.01, 0.02, 0.05, 0.1, 0.3]
    rights = []
    for radius, changed in Attacker(kind, steps=4).sweep(model, inputs, labels, valid, radii):
        assert float((changed - inputs).abs().max()) <= radius + 1e-6
        assert changed.min() >= 0 and changed.max() <= 1
        hits = (model(changed).argmax(dim=1) == labels) & valid
        rights.append(hits.reshape(6, -1).sum(dim=1).tolist())
    assert all(np.less_equal(after, earlier).all() for earlier, after in itertools.pairwise(rights))
    assert sum(rights[-1]) < sum(rights[0])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_at_radius_zero_and_it_is_drawn_from_its_seed(kind: Attack) -> None:
    model, (inputs, labels, valid) = network(True), batch(True)
    ((_, same),) = Attacker(kind).sweep(model, inputs, labels, valid, [0.0])
    assert same.data_ptr() == inputs.data_ptr() or torch.equal(same, inputs)
    first, again, other = (
        next(Attacker(kind, steps=2, seed=seed).sweep(model, inputs, labels, valid, [0.05]))[1] for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert torch.equal(first, other) == (kind == "fgsm")


def test_more_steps_are_a_stronger_attack() -> None:
    model, (inputs, labels, valid) = network(True), batch(True)

    def right(attacker: Attacker) -> int:
        ((_, changed),) = attacker.sweep(model, inputs, labels, valid, [0.06])
        return int(((model(changed).argmax(dim=1) == labels) & valid).sum())

    assert right(Attacker("pgd", steps=20, restarts=2)) < right(Attacker("fgsm"))
    assert right(Attacker("segpgd", steps=20)) <= right(Attacker("pgd", steps=20))


def test_the_first_step_of_segpgd_looks_only_where_it_is_right() -> None:
    # Two positions share one value: the wrong one pulls it up, the right one down.
    def logits(x: Tensor) -> Tensor:
        first = torch.stack([x - 0.5, 0.5 - x], dim=1)
        second = torch.stack([-30 * x - 5, 30 * x + 5], dim=1)
        return torch.cat([first, second], dim=2)

    inputs, labels = torch.tensor([[0.6]]), torch.tensor([[0, 0]])
    ((_, changed),) = Attacker("segpgd", steps=1).sweep(logits, inputs, labels, None, [0.2])
    assert float(changed) < 0.5
    ((_, changed),) = Attacker("fgsm").sweep(logits, inputs, labels, None, [0.2])
    assert float(changed) == pytest.approx(0.6)  # it went up, which gained nothing


def test_the_range_of_frames_is_theirs() -> None:
    model = network(False)
    inputs = torch.rand(4, 3, 8, 8) * 255
    labels = model(inputs / 255).argmax(dim=1)
    ((_, changed),) = Attacker("pgd", low=0, high=255).sweep(lambda x: model(x / 255), inputs, labels, None, [60.0])
    assert changed.min() >= 0 and changed.max() <= 255
    assert 1 < float((changed - inputs).abs().max()) <= 60.001
