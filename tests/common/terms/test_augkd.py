"""AuG-KD's term: whom it asks about what, the curriculum, and its value against a slow reference."""

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from common.augkd import Artefact, Layout
from common.distillation import Distillation
from common.errors import InputError
from common.losses import kl_divergence
from common.schedule import LinearSchedule
from common.teacher import Teacher
from common.terms import KD, AuGKD
from common.view import View


class Spy(nn.Module):
    """A network that remembers what it was asked about."""

    def __init__(self, dense: bool, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.network: nn.Module = nn.Conv2d(2, 3, 1) if dense else nn.Sequential(nn.Flatten(), nn.Linear(128, 3))
        self.asked: list[Tensor] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked.append(inputs.detach().clone())
        logits: Tensor = self.network(inputs)
        return logits


def _artefact(dense: bool) -> Artefact:
    torch.manual_seed(7)
    return Artefact(Layout(3, 2, (8, 8), dense, (-1.0, -1.0), (1.0, 1.0)), 4, 2).freeze()


def _view(dense: bool, progress: float = 0.0, count: int = 5, **options: Any) -> tuple[View, Spy, Spy]:
    student, expert = Spy(dense, 1), Spy(dense, 2)
    generator = torch.Generator().manual_seed(3)
    inputs = torch.rand(count, 2, 8, 8, generator=generator) * 2 - 1
    labels = torch.randint(0, 3, (count, 8, 8) if dense else (count,), generator=generator)
    teacher = Teacher([expert])
    logits = student(inputs)
    view = View(
        inputs,
        logits,
        nn.Identity(),
        logits,
        student,
        targets=labels,
        teacher_logits=teacher(inputs),
        teacher=teacher,
        progress=progress,
        **options,
    )
    copy = teacher.networks[0]
    assert isinstance(copy, Spy)
    student.asked.clear()
    copy.asked.clear()
    return view, student, copy


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_teacher_and_student_are_asked_about_mixed_samples(dense: bool, temperature: float) -> None:
    artefact = _artefact(dense)
    view, student, teacher = _view(dense, progress=0.3)
    assert view.targets is not None
    output = AuGKD(temperature=temperature, agreeing=False, artefact=artefact)(view)
    mixed = artefact.mixture(view.inputs, view.targets, 0.6)
    assert [len(asked) for asked in (teacher.asked, student.asked)] == [1, 1]
    assert torch.equal(teacher.asked[0], mixed)
    assert torch.equal(student.asked[0], mixed)
    # In float64, position by position.
    ours, theirs = (network.double()(mixed.double()).detach() / temperature for network in (student, teacher))
    rows = [one.movedim(1, -1).reshape(-1, 3).tolist() for one in (ours, theirs)]
    expected = []
    for z, z_teacher in zip(*rows, strict=True):
        log_p, log_q = ([value - math.log(sum(map(math.exp, row))) for value in row] for row in (z, z_teacher))
        expected.append(temperature**2 * sum(math.exp(q) * (q - p) for p, q in zip(log_p, log_q, strict=True)))
    assert output.loss.shape == view.targets.shape
    assert output.loss.flatten().tolist() == pytest.approx(expected, rel=1e-3)
    assert output.metrics["real"].item() == pytest.approx(0.6)


def test_the_curriculum_is_the_papers() -> None:
    for progress, share in ((0.0, 0.2), (0.3, 0.6), (0.6, 1.0), (0.9, 1.0)):
        # min((1 − b) · e / (a · E) + b, 1) with a = 0.6, b = 0.2
        assert share == pytest.approx(min(0.8 * progress / 0.6 + 0.2, 1.0))
        view, _, _ = _view(False, progress)
        assert AuGKD(artefact=_artefact(False))(view).metrics["real"].item() == pytest.approx(share)


def test_with_the_students_own_samples_alone_it_is_distillation_without_a_further_pass() -> None:
    view, student, teacher = _view(True, progress=0.8, valid=torch.rand(5, 8, 8) > 0.3)
    output, plain = AuGKD(temperature=2.0, agreeing=False, artefact=_artefact(True))(view), KD(temperature=2.0)(view)
    assert torch.equal(output.loss, plain.loss)
    assert student.asked == teacher.asked == []
    assert output.acts["mixture"].item() == 0


def test_it_is_not_distillation_on_the_students_own_samples_before_that() -> None:
    view, _, _ = _view(False)
    assert not torch.allclose(AuGKD(agreeing=False, artefact=_artefact(False))(view).loss, KD()(view).loss)


def test_the_first_samples_alone_are_mixed() -> None:
    artefact = _artefact(False)
    view, student, teacher = _view(False)
    assert view.targets is not None
    loss = AuGKD(samples=3, agreeing=False, artefact=artefact)(view).loss
    mixed = artefact.mixture(view.inputs[:3], view.targets[:3], 0.2)
    assert torch.equal(teacher.asked[0], mixed)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(kl_divergence(student(mixed), teacher(mixed)).mean().item())


def test_positions_that_do_not_count_add_nothing() -> None:
    valid = torch.zeros(5, 8, 8, dtype=torch.bool)
    valid[:, :4] = True
    view, _, _ = _view(True, valid=valid)
    loss = AuGKD(agreeing=False, artefact=_artefact(True))(view).loss
    assert not loss[:, 4:].any()
    assert bool((loss[:, :4] > 0).all())


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("progress", [0.1, 0.9])
def test_what_the_teacher_gets_wrong_is_not_learnt(dense: bool, progress: float) -> None:
    artefact = _artefact(dense)
    view, _, teacher = _view(dense, progress)
    assert view.targets is not None
    output = AuGKD(artefact=artefact)(view)
    everywhere = AuGKD(agreeing=False, artefact=artefact)(view).loss
    share = min(0.8 * progress / 0.6 + 0.2, 1.0)
    right = teacher(artefact.mixture(view.inputs, view.targets, share)).argmax(dim=1) == view.targets
    assert bool(right.any())
    assert not bool(right.all())
    assert torch.equal(output.loss, everywhere * right)
    assert output.shares["teacher_right"].item() == pytest.approx(right.float().mean().item())


def test_without_labels_the_teachers_choices_stand_for_them() -> None:
    artefact = _artefact(False)
    view, _, teacher = _view(False)
    assert view.teacher_logits is not None
    AuGKD(artefact=artefact)(dataclasses.replace(view, targets=None))
    assert torch.equal(teacher.asked[0], artefact.mixture(view.inputs, view.teacher_logits.argmax(dim=1), 0.2))


def test_gradients_reach_the_student_alone() -> None:
    artefact = _artefact(False)
    view, student, teacher = _view(False)
    AuGKD(agreeing=False, artefact=artefact)(view).loss.mean().backward()
    assert all(parameter.grad is not None for parameter in student.parameters())
    assert all(parameter.grad is None for network in (teacher, artefact) for parameter in network.parameters())


def test_an_artefact_is_part_of_its_state() -> None:
    method = Distillation({"augkd": AuGKD(artefact=_artefact(False))}, teacher=Teacher([nn.Identity()]))
    assert any(key.startswith("terms.augkd.artefact.generator.") for key in method.state_dict())
    assert method.trainable_parameters() == []


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match=r"augkd needs what common\.augkd\.prepare gives"):
        AuGKD()(_view(False)[0])
    with pytest.raises(InputError, match=r"real=1.5 must be in \[0, 1\]"):
        AuGKD(real=1.5)
    with pytest.raises(InputError, match=r"real=2 must be in \[0, 1\]"):
        AuGKD(real=LinearSchedule(0.0, 2.0))
    with pytest.raises(InputError, match="augkd needs a teacher"):
        Distillation({"augkd": AuGKD()})
