"""Generator, encoder and anchor: shapes for every kind of input, bounds, and what a mask leaves alone."""

import pytest
import torch
from torch import nn

from common.augkd.artefact import Artefact
from common.augkd.networks import Anchor, Layout

LOW, HIGH = (-1.0, -2.0, 0.0), (1.0, 2.0, 255.0)


def _layout(dense: bool, size: tuple[int, int] = (16, 16), classes: int = 4) -> Layout:
    return Layout(classes, 3, size, dense, LOW, HIGH)


def _sample(layout: Layout, size: tuple[int, int], count: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    unit = torch.rand(count, 3, *size)
    low, high = (torch.tensor(bound).view(-1, 1, 1) for bound in (LOW, HIGH))
    labels = torch.randint(0, layout.classes, (count, *size) if layout.dense else (count,))
    return low + (high - low) * unit, labels


@pytest.mark.parametrize(
    ("dense", "size"),
    [(False, (16, 16)), (False, (64, 64)), (False, (7, 9)), (False, (33, 40)), (True, (16, 16)), (True, (50, 37))],
)
def test_a_mixture_has_the_inputs_shape_and_stays_within_their_bounds(dense: bool, size: tuple[int, int]) -> None:
    layout = _layout(dense, size)
    artefact = Artefact(layout, latent=5, width=4).freeze()
    inputs, labels = _sample(layout, size)
    for share in (0.0, 0.3, 1.0):
        mixture = artefact.mixture(inputs, labels, share)
        assert mixture.shape == inputs.shape
        for channel, (low, high) in enumerate(zip(LOW, HIGH, strict=True)):
            assert low <= mixture[:, channel].min() <= mixture[:, channel].max() <= high
    assert torch.equal(artefact.mixture(inputs, labels, 1.0), inputs)


def test_maps_of_any_size_are_generated_by_one_artefact() -> None:
    layout = _layout(True, (64, 64))
    artefact = Artefact(layout, 5, 4).freeze()
    for size in ((16, 16), (24, 56)):
        inputs, labels = _sample(layout, size)
        assert artefact.mixture(inputs, labels, 0.5).shape == inputs.shape


def test_labels_that_do_not_count_do_not_matter() -> None:
    layout = _layout(True)
    artefact = Artefact(layout, 5, 4).freeze()
    inputs, labels = _sample(layout, (16, 16))
    valid = torch.rand(labels.shape) > 0.5
    ignored = labels.masked_fill(~valid, 255)
    assert torch.equal(artefact.mixture(inputs, labels, 0.5, valid), artefact.mixture(inputs, ignored, 0.5, valid))
    assert layout.one_hot(ignored, valid).sum(dim=1).equal(valid.float())


@pytest.mark.parametrize("shape", [(6, 5), (2, 5, 3, 4)])
def test_the_anchor_by_hand(shape: tuple[int, ...]) -> None:
    anchor = Anchor(classes=4, latent=5)
    latents = torch.randn(shape)
    # ψ(u) = u + c where the perceptron ends in a constant: z' = m (m z + c) + (1 − m) z
    last = anchor.change[-1]
    assert isinstance(last, nn.Conv1d)
    with torch.no_grad():
        last.weight.zero_()
        assert last.bias is not None
        last.bias.fill_(2.0)
    mask = torch.rand(shape)
    expected = mask * (mask * latents + 2) + (1 - mask) * latents
    assert anchor(latents, mask).allclose(expected)
    assert torch.equal(anchor(latents, torch.zeros(shape)), latents)


def test_a_mask_is_of_its_class_and_in_the_unit_interval() -> None:
    layout, anchor = _layout(False), Anchor(4, 5)
    hot = layout.one_hot(torch.tensor([0, 1, 0]))
    mask = anchor.mask(hot, torch.zeros(3, 5))
    assert mask.shape == (3, 5)
    assert bool(((mask > 0) & (mask < 1)).all())
    assert torch.equal(mask[0], mask[2])
    assert not torch.equal(mask[0], mask[1])


def test_without_an_anchor_latents_stay_where_they_are() -> None:
    layout = _layout(False)
    artefact = Artefact(layout, 5, 4, anchored=False).freeze()
    inputs, labels = _sample(layout, (16, 16))
    before, after = artefact.latents(inputs, layout.one_hot(labels))
    assert torch.equal(before, after)


def test_an_artefact_is_frozen_for_good() -> None:
    artefact = Artefact(_layout(False), 5, 4).freeze()
    assert not any(parameter.requires_grad for parameter in artefact.parameters())
    artefact.train()
    assert not any(module.training for module in artefact.modules())
