"""The stages: an anchor that has to carry latents between two known domains, the mask's budget, and what is refused."""

import itertools
import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from common.augkd import losses
from common.augkd.anchor_learning import AnchorLearning
from common.augkd.artefact import Artefact
from common.augkd.data_free import DataFreeLearning, DataFreeWeights
from common.augkd.networks import Encoded, Layout
from common.augkd.stages import Sample
from common.errors import NonFiniteLossError
from common.teacher import Teacher

# Points of a plane as images of one pixel and two channels; the teacher's domain is two clusters at ±2 on the first
# axis, and the student's is the same turned by 90 degrees and moved.
LAYOUT = Layout(2, 2, (1, 1), False, (-9.0, -9.0), (9.0, 9.0))


def _points(labels: Tensor, generator: torch.Generator) -> Tensor:
    centres = torch.stack([4.0 * labels - 2.0, torch.zeros(len(labels))], dim=1)
    return centres + 0.5 * torch.randn(len(labels), 2, generator=generator)


def _student_domain(points: Tensor) -> Tensor:
    return torch.stack([-points[:, 1], points[:, 0]], dim=1) + torch.tensor([0.3, 1.0])


class _Itself(nn.Module):
    """Generator and encoder of points: latents are the points."""

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return latents[:, :, None, None]


class _Back(nn.Module):
    latent = 2

    def forward(self, inputs: Tensor, labels: Tensor) -> Encoded:
        return Encoded(inputs.flatten(1), torch.zeros(len(inputs), 2))


def _teacher() -> Teacher:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer, generator = torch.optim.Adam(network.parameters(), lr=0.02), torch.Generator().manual_seed(1)
    for _ in range(300):
        labels = torch.randint(0, 2, (64,), generator=generator)
        loss = F.cross_entropy(network(_points(labels, generator)[:, :, None, None]), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return Teacher([network])


def _samples() -> Iterator[Sample]:
    generator = torch.Generator().manual_seed(2)
    while True:
        labels = torch.randint(0, 2, (64,), generator=generator)
        yield Sample(_student_domain(_points(labels, generator))[:, :, None, None], labels)


def _planar() -> Artefact:
    torch.manual_seed(3)
    artefact = Artefact(LAYOUT, 2, 1)
    artefact.generator, artefact.encoder = _Itself(), _Back()  # type: ignore[assignment]
    return artefact


def _learnt(rounds: int = 300, **options: Any) -> tuple[Artefact, Teacher]:
    artefact, teacher = _planar(), _teacher()
    stage = AnchorLearning(artefact, teacher, rounds, rate=0.02, **options)
    for sample in itertools.islice(_samples(), rounds):
        stage.round(sample)
    return artefact, teacher


@torch.no_grad()
def _told(artefact: Artefact, teacher: Teacher, kind: losses.Uncertainty) -> dict[str, tuple[float, float]]:
    """Accuracy and uncertainty of the teacher before and after the anchor."""
    sample = next(_samples())
    found = {}
    for name, latents in zip(
        ("before", "after"), artefact.latents(sample.inputs, LAYOUT.one_hot(sample.labels)), strict=True
    ):
        logits = teacher(artefact.generator(latents))
        right = float((logits.argmax(dim=1) == sample.labels).float().mean())
        found[name] = (right, float(losses.uncertainty(logits, kind).mean()))
    return found


@pytest.mark.parametrize("kind", ["energy", "entropy", "confidence"])
def test_an_anchor_carries_latents_into_the_teachers_domain(kind: losses.Uncertainty) -> None:
    artefact, teacher = _learnt(kind=kind, labels=1.0)
    told = _told(artefact, teacher, kind)
    assert told["before"][0] < 0.7  # its own boundary runs through both clusters
    assert told["after"][0] > 0.95
    assert told["after"][1] < told["before"][1]


@pytest.mark.parametrize("invariant", [0.1, 0.25, 0.6])
def test_the_mask_of_every_sample_reaches_its_budget(invariant: float) -> None:
    artefact, _ = _learnt(invariant=invariant, labels=0.0, kind="confidence", rounds=400)
    assert artefact.anchor is not None
    mask = artefact.anchor.mask(LAYOUT.one_hot(torch.tensor([0, 1])), torch.zeros(2, 2))
    assert bool(((mask >= 0) & (mask <= 1)).all())
    assert mask.mean(dim=1).sub(1 - invariant).abs().max() < 0.05


def test_the_loss_is_the_sum_of_its_parts() -> None:
    artefact, teacher = _planar(), _teacher()
    assert artefact.anchor is not None
    stage, sample = AnchorLearning(artefact, teacher, 10, invariant=0.3, labels=0.5, kind="entropy"), next(_samples())
    seen: list[float] = []
    take = stage._step
    stage._step = lambda optimizer, rate, loss: (seen.append(loss.item()), take(optimizer, rate, loss))[1]  # type: ignore[method-assign,assignment,func-returns-value]
    hot = LAYOUT.one_hot(sample.labels)
    with torch.no_grad():
        mask = artefact.anchor.mask(hot, sample.inputs.flatten(1))
        logits = teacher(artefact.anchor(sample.inputs.flatten(1), mask)[:, :, None, None])
        p = logits.softmax(dim=1)
        expected = float(-(p * p.log()).sum(dim=1).mean() + F.cross_entropy(logits, sample.labels) * 0.5)
        expected += float((mask.mean(dim=1) - 0.7).abs().mean())
    stage.round(sample)
    assert seen == [pytest.approx(expected)]


def test_only_the_anchor_learns_in_its_stage() -> None:
    artefact = Artefact(Layout(2, 2, (8, 8), False, (-9.0,) * 2, (9.0,) * 2), 3, 2)
    before = {name: value.clone() for name, value in artefact.state_dict().items()}
    stage = AnchorLearning(artefact, Teacher([nn.Sequential(nn.Flatten(), nn.Linear(128, 2))]), 3)
    stage.round(Sample(torch.randn(4, 2, 8, 8), torch.tensor([0, 1, 0, 1])))
    changed = {name for name, value in artefact.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("anchor.") for name in changed)


def _small(dense: bool) -> tuple[Artefact, Teacher, nn.Module, Sample]:
    torch.manual_seed(0)
    layout = Layout(3, 1, (8, 8), dense, (-1.0,), (1.0,))
    convolutions = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1))
    network: nn.Module = convolutions if dense else nn.Sequential(convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    student: nn.Module = nn.Conv2d(1, 3, 1) if dense else nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    labels = torch.randint(0, 3, (4, 8, 8) if dense else (4,))
    return Artefact(layout, 4, 2), Teacher([network]), student, Sample(torch.rand(4, 1, 8, 8) - 0.5, labels)


@pytest.mark.parametrize("dense", [False, True])
def test_data_free_learning_trains_what_it_should_and_looks_at_no_input(dense: bool) -> None:
    artefact, teacher, student, sample = _small(dense)
    untouched = {name: value.clone() for name, value in student.state_dict().items()}
    frozen = {name: value.clone() for name, value in teacher.state_dict().items()}
    states = []
    for inputs in (sample.inputs, torch.full_like(sample.inputs, math.nan)):
        torch.manual_seed(1)
        artefact = Artefact(artefact.layout, 4, 2)
        stage = DataFreeLearning(artefact, teacher, student, torch.full((3,), 1 / 3), 4, batch_size=8)
        before = {name: value.clone() for name, value in artefact.state_dict().items()}
        for _ in range(2):
            stage.round(sample._replace(inputs=inputs))
        states.append({**artefact.state_dict(), **stage.student.state_dict()})
        changed = {name.split(".")[0] for name in before if not torch.equal(before[name], artefact.state_dict()[name])}
        assert changed == {"generator", "encoder"}
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert all(torch.equal(value, untouched[name]) for name, value in student.state_dict().items())
    assert all(torch.equal(value, frozen[name]) for name, value in teacher.state_dict().items())
    assert not any(parameter.requires_grad for parameter in teacher.parameters())


@pytest.mark.parametrize("dense", [False, True])
def test_the_generators_loss_is_the_sum_of_its_parts(dense: bool) -> None:
    artefact, teacher, student, sample = _small(dense)
    wanted = torch.tensor([0.5, 0.3, 0.2])
    weights = DataFreeWeights(adversarial=0.7, one_hot=0.2, balance=3.0, statistics=0.4, labels=0.6, variation=0.3)
    stage = DataFreeLearning(artefact, teacher, student, wanted, 4, 4, weights=weights)
    generated = torch.rand(4, 1, 8, 8) * 2 - 1
    with stage.statistics.watching():
        theirs = stage._heard(teacher, generated)
    ours = stage.student(generated)
    p, q = ours.softmax(dim=1), theirs.softmax(dim=1)
    apart = (q * (q.log() - p.log())).sum(dim=1).mean()
    expected = 0.7 * (-torch.log1p((ours - theirs).abs().mean()) if dense else -apart)
    expected += 0.2 * -q.amax(dim=1).log().mean() + 0.4 * stage.statistics.distance()
    mean = q.transpose(0, 1).flatten(1).mean(dim=1)
    expected += 3.0 * (mean * (mean / wanted).log()).sum()
    half = generated / 2
    expected += 0.3 * ((half.diff(dim=2)).abs().mean() + half.diff(dim=3).abs().mean())
    if dense:
        expected += 0.6 * F.cross_entropy(theirs, sample.labels)
    assert stage._generator_loss(generated, theirs, ours, sample).item() == pytest.approx(expected.item(), rel=1e-5)


class _NotANumber(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.flatten(1)[:, :3] * math.nan


def test_a_teacher_that_gives_no_numbers_is_told_in_one_line() -> None:
    artefact, _, student, sample = _small(False)
    stage = DataFreeLearning(artefact, Teacher([_NotANumber()]), student, torch.full((3,), 1 / 3), 4, 4)
    with pytest.raises(
        NonFiniteLossError, match=r"^data-free learning: the teacher's logits are not finite on .*round 0"
    ):
        stage.round(sample)
