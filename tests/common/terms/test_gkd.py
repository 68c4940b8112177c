"""GKD: value by hand, a slow reference, the second stage and its frozen encoder, what cannot be distilled."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.errors import InputError
from common.teacher import Teacher
from common.terms import GKD
from common.view import View


class _Network(nn.Module):
    """An encoder with batch statistics, and a head."""

    def __init__(self, width: int = 4, stride: int = 2) -> None:
        super().__init__()
        torch.manual_seed(width)
        self.encoder = nn.Sequential(nn.Conv2d(3, width, 2, stride=stride), nn.BatchNorm2d(width))
        self.head = nn.Conv2d(width, 2, 1)

    def encode(self, images: Tensor) -> Tensor:
        encoded: Tensor = self.encoder(images)
        return encoded

    def forward(self, images: Tensor) -> Tensor:
        answer: Tensor = self.head(self.encode(images))
        return answer


def view_of(student: _Network, teacher: Teacher, **more: Any) -> View:
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    encoded = student.encode(images)
    logits = student.head(encoded)
    return View(
        images, encoded, student.head, logits, student, encoded=encoded, teacher_encodes=teacher.encodes, **more
    )


def bound(student: _Network, teacher: Teacher, **arguments: Any) -> GKD:
    term = GKD(**arguments)
    term.bind(student, view_of(student, teacher))
    return term


def test_by_hand() -> None:
    # P = identity: f_s = (1, 0) and f_t = (1, 1): 1 - cos 45°; f_s = (0, 2) and f_t = (0, -3): 2.
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, -3.0]])
    view = View(student, student, nn.Identity(), student, nn.Identity(), encoded=student)
    view = dataclasses.replace(view, teacher_encodes=lambda _: [teacher])
    network = _Network()
    term = GKD()
    term.bind(network, view)
    with torch.no_grad():
        term.projections[0].weight.copy_(torch.eye(2))  # type: ignore[union-attr,operator]
    output = term(view)
    assert output.loss.tolist() == pytest.approx([1 - math.sqrt(0.5), 2.0])
    assert output.metrics["cosine"].item() == pytest.approx((math.sqrt(0.5) - 1) / 2)


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_matches_a_slow_reference(stride: int) -> None:
    student, networks = _Network(4), [_Network(6, stride), _Network(3, stride)]
    teacher = Teacher(networks)
    term = bound(student, teacher)
    view = view_of(student, teacher)
    assert view.encoded is not None
    expected = torch.zeros(3, 4, 4, dtype=torch.float64)
    for projection, network in zip(term.projections, networks, strict=True):
        target = network.eval().encode(view.inputs).detach().double()
        if target.shape[-1] != 4:
            target = torch.nn.functional.interpolate(target, size=(4, 4), mode="bilinear", align_corners=False)
        weight = projection.weight.double()  # type: ignore[union-attr,operator]
        for b in range(3):
            for y in range(4):
                for x in range(4):
                    ours, theirs = weight @ view.encoded[b, :, y, x].double(), target[b, :, y, x]
                    expected[b, y, x] += (1 - ours @ theirs / ours.norm() / theirs.norm()) / 2
    torch.testing.assert_close(term(view).loss.double(), expected, rtol=1e-5, atol=1e-5)


def test_encoder_and_maps_learn_and_the_teacher_does_not() -> None:
    student, teacher = _Network(), Teacher([_Network(6)])
    term = bound(student, teacher)
    term(view_of(student, teacher)).loss.mean().backward()
    assert all(parameter.grad is not None for parameter in (*student.encoder.parameters(), *term.parameters()))
    assert all(parameter.grad is None for parameter in (*student.head.parameters(), *teacher.parameters()))


def test_size_and_teacher_do_not_matter_but_direction() -> None:
    student, teacher = _Network(), Teacher([_Network(6)])
    term = bound(student, teacher)
    view = view_of(student, teacher)
    assert view.encoded is not None
    larger = dataclasses.replace(view, encoded=7 * view.encoded)
    torch.testing.assert_close(term(larger).loss, term(view).loss)


def test_the_second_stage_says_nothing_and_freezes_the_encoder() -> None:
    student, teacher = _Network(), Teacher([_Network(6)])
    term = bound(student, teacher, until=0.25)
    student.train()
    term.before_step(student, 0.2)
    assert student.encoder.training and all(parameter.requires_grad for parameter in student.parameters())
    assert term(view_of(student, teacher, progress=0.2)).loss.dim() > 0
    term.before_step(student, 0.25)
    assert not student.encoder.training and student.head.training
    assert [parameter.requires_grad for parameter in student.encoder.parameters()] == [False] * 4
    assert all(parameter.requires_grad for parameter in student.head.parameters())
    loss = term(view_of(student, teacher, progress=0.25)).loss
    assert loss.dim() == 0 and loss == 0


def test_what_has_no_encoder_is_refused() -> None:
    view = view_of(_Network(), Teacher([_Network(6)]))
    with pytest.raises(InputError, match="gkd freezes the encoder, and Linear has none; use method=kd"):
        GKD().bind(nn.Linear(2, 2), view)
    with pytest.raises(InputError, match="the teacher's Flatten does not show its features; use method=kd"):
        bound(_Network(), Teacher([nn.Flatten()]))
