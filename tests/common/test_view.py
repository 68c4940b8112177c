"""What a view derives: the mask on another grid, and labels."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from common.view import View


def _view(*, targets: Tensor | None = None, valid: Tensor | None = None, teacher_logits: Tensor | None = None) -> View:
    logits = torch.zeros(2, 3, 4, 4)
    return View(logits, logits, nn.Identity(), logits, nn.Identity(), targets, valid, teacher_logits=teacher_logits)


def test_the_masks_own_grid_gets_the_mask_itself() -> None:
    valid = torch.rand(2, 4, 4) > 0.5
    assert _view(valid=valid).valid_on(torch.Size([4, 4])) is valid
    assert _view().valid_on(torch.Size([2, 2])) is None


def test_a_coarser_grid_takes_the_nearest_pixel() -> None:
    valid = torch.zeros(2, 4, 4, dtype=torch.bool)
    valid[0, :2, :2] = True  # one cell of a 2 × 2 grid
    valid[1, :, 2:] = True  # its right half
    valid[1, 0, 1] = True  # a lone pixel, which is not the one that stands for its cell
    coarse = _view(valid=valid).valid_on(torch.Size([2, 2]))
    assert coarse is not None and coarse.dtype == torch.bool
    assert coarse.tolist() == [[[True, False], [False, False]], [[False, True], [False, True]]]


def test_a_finer_grid_repeats_the_mask() -> None:
    valid = torch.tensor([[[True, False], [False, True]]])
    fine = _view(valid=valid).valid_on(torch.Size([4, 4]))
    assert fine is not None
    assert torch.equal(fine, valid.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_masks_of_any_number_of_dimensions() -> None:
    line = _view(valid=torch.tensor([[True, True, False, False]])).valid_on(torch.Size([2]))
    assert line is not None and line.tolist() == [[True, False]]
    flat = torch.tensor([True, False])
    assert _view(valid=flat).valid_on(torch.Size([])) is flat


def test_labels_are_targets_with_invalid_positions_set_to_zero() -> None:
    targets = torch.full((2, 4, 4), 2)
    targets[0, 0] = 255
    valid = targets != 255
    labels = _view(targets=targets, valid=valid, teacher_logits=torch.zeros(2, 3, 4, 4)).labels()
    assert (labels[valid] == 2).all() and (labels[~valid] == 0).all()
    assert (targets[0, 0] == 255).all()  # the view's own targets are left alone
    assert _view(targets=targets).labels() is targets


def test_labels_without_targets_are_the_teachers() -> None:
    teacher_logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(_view(teacher_logits=teacher_logits).labels(), teacher_logits.argmax(dim=1))


def test_no_labels_at_all() -> None:
    with pytest.raises(ValueError, match="without targets and teacher_logits"):
        _view().labels()


def test_a_view_stays_as_it_was_made() -> None:
    view = _view()
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.log = False  # type: ignore[misc]
    other = dataclasses.replace(view, log=False)
    assert view.log and not other.log and other.logits is view.logits


def test_labels_of_some_positions_are_completed_by_the_teacher() -> None:
    labelled, valid = torch.tensor([True, False, False]), torch.tensor([True, True, False])
    targets = torch.tensor([1, 255, 255])
    teacher_logits = torch.tensor([[5.0, 0.0, 0.0], [0.0, 0.0, 5.0], [0.0, 5.0, 0.0]])
    view = dataclasses.replace(_view(targets=targets, valid=valid, teacher_logits=teacher_logits), labelled=labelled)
    assert view.labels().tolist() == [1, 2, 0]
    assert dataclasses.replace(view, teacher_logits=None).labels().tolist() == [1, 0, 0]
    alone = view.only_labelled()
    assert alone.labels().tolist() == [1, 0, 0]
    assert alone.valid is labelled and alone.labelled is None
    assert _view(targets=targets).only_labelled().valid is None
