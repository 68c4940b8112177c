"""A preparation: kept stage by stage, resumed anywhere bit for bit, and its stages taken from elsewhere."""

import dataclasses
import io
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from common.augkd import Artefact, Domain, Layout, Preparation, Sample, prepare
from common.augkd.anchor_learning import AnchorLearning
from common.augkd.data_free import DataFreeLearning
from common.augkd.folder import ArtefactFolder
from common.errors import InputError, Interrupted, NonFiniteLossError
from common.runs.interruption import Interruption
from common.teacher import Teacher

SETTINGS = Preparation(latent=4, width=2, data_free_rounds=6, anchor_rounds=5, batch_size=4)


def _network(seed: int, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, classes, 1), nn.Flatten(2), _Mean()
    )


class _Mean(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.mean(dim=2)


def _batches(start: int) -> Iterator[Sample]:
    for number in itertools.count(start):
        generator = torch.Generator().manual_seed(number)
        images = torch.rand(4, 1, 8, 8, generator=generator) - 0.5
        yield Sample(images, torch.randint(0, 3, (4,), generator=generator))


DOMAIN = Domain(Layout(3, 1, (8, 8), False, (-0.5,), (0.5,)), _batches, "these")


def _prepare(path: Path, settings: Preparation = SETTINGS, **options: Any) -> Artefact:
    return prepare(
        settings,
        Teacher([options.pop("teacher", _network(1))]),
        _network(2),
        options.pop("domain", DOMAIN),
        path,
        **options,
    )


def _same(ours: nn.Module, theirs: nn.Module) -> bool:
    pairs = zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artefact, Path]:
    path = tmp_path_factory.mktemp("whole") / "anchor"
    return _prepare(path), path


def test_a_preparation_keeps_its_stages_costs_and_samples(whole: tuple[Artefact, Path]) -> None:
    artefact, path = whole
    assert sorted(one.name for one in path.iterdir()) == [
        "anchor.json",
        "anchor.safetensors",
        "data_free.safetensors",
        "samples.npz",
        "samples.png",
    ]
    folder = ArtefactFolder(path)
    for facts in folder.stages.values():
        assert facts.seconds > 0
        assert facts.peak_mebibytes > 0
    assert {f"{name}/after the anchor" for name in ("energy", "confidence", "agreement")} < set(folder.measured)
    assert folder.samples()["images"].shape == (4, 4, 8, 8, 3)
    assert not any(parameter.requires_grad for parameter in artefact.parameters())


def test_the_same_seed_twice_is_equal_and_another_is_not(whole: tuple[Artefact, Path], tmp_path: Path) -> None:
    torch.manual_seed(77)  # what was drawn before does not matter
    assert _same(_prepare(tmp_path / "again"), whole[0])
    assert not _same(_prepare(tmp_path / "other", seed=1), whole[0])


def test_the_global_generator_stands_where_it_stood(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    teacher, student = Teacher([_network(1)]), _network(2)
    torch.manual_seed(5)
    prepare(SETTINGS, teacher, student, DOMAIN, tmp_path / "a")
    assert torch.equal(torch.rand(3), expected)


class _Stopping(Interruption):
    """A signal comes at the n-th round."""

    def __init__(self, at: int) -> None:
        super().__init__()
        self.left = at

    @property
    def pending(self) -> bool:
        self.left -= 1
        if self.left == 0:
            self._pending = 2
        return super().pending


@pytest.mark.parametrize("at", [1, 3, 6, 7, 9, 11])
def test_an_interrupted_preparation_ends_as_one_that_was_not(
    whole: tuple[Artefact, Path], at: int, tmp_path: Path
) -> None:
    """Inside both stages, and between them."""
    stage, done = ("data-free learning", at) if at <= 6 else ("anchor learning", at - 6)
    with pytest.raises(Interrupted) as caught:
        _prepare(tmp_path / "a", interruption=_Stopping(at))
    assert str(caught.value) == f"interrupted in {stage}, round {done}: the same command goes on from there"
    assert _same(_prepare(tmp_path / "a"), whole[0])
    for name in ("data_free", "anchor"):
        file = f"{name}.safetensors"
        assert (tmp_path / "a" / file).read_bytes() == (whole[1] / file).read_bytes()


def test_finished_stages_are_not_done_again(whole: tuple[Artefact, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (DataFreeLearning, AnchorLearning):
        monkeypatch.setattr(kind, "round", lambda stage, sample: pytest.fail(f"{stage.name} is done again"))
    assert _same(_prepare(whole[1]), whole[0])


def test_stages_are_taken_from_another_folder(
    whole: tuple[Artefact, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        for kind in (DataFreeLearning, AnchorLearning):
            patch.setattr(kind, "round", lambda stage, sample: pytest.fail(f"{stage.name} is done again"))
        assert _same(_prepare(tmp_path / "a", taken=whole[1], seed=9), whole[0])
    # Of an anchor learnt otherwise, the first stage alone.
    console = Console(record=True, width=200, file=io.StringIO())
    other = _prepare(tmp_path / "b", dataclasses.replace(SETTINGS, labels=5.0), taken=whole[1], console=console)
    assert _same(other.generator, whole[0].generator)
    assert not _same(other, whole[0])
    assert "the anchor there is another (labels=5.0 (there: 1.0)); it is learnt anew" in console.export_text()


def test_another_student_takes_the_same_stages(whole: tuple[Artefact, Path], tmp_path: Path) -> None:
    student = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    ours = prepare(SETTINGS, Teacher([_network(1)]), student, DOMAIN, tmp_path / "a", taken=whole[1])
    assert _same(ours, whole[0])


def test_a_first_stage_of_something_else_is_refused(whole: tuple[Artefact, Path], tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"settings": dataclasses.replace(SETTINGS, latent=5)}, r"latent=5 \(there: 4\)"),
        ({"teacher": _network(3)}, "its teacher, its data or"),
        ({"domain": dataclasses.replace(DOMAIN, fingerprint="others")}, "its teacher, its data or"),
    ]
    for options, told in cases:
        with pytest.raises(InputError, match=f"was prepared otherwise: {told}.*leave anchor= out") as caught:
            _prepare(tmp_path / "a", taken=whole[1], **options)
        assert "\n" not in str(caught.value)
    for options, told in cases:
        with pytest.raises(InputError, match=f"was prepared otherwise: {told}.*; give another folder"):
            _prepare(whole[1], **options)
    with pytest.raises(InputError, match="holds no finished data-free stage"):
        _prepare(tmp_path / "a", taken=tmp_path / "nothing")


def test_a_state_of_other_settings_is_not_gone_on_with(whole: tuple[Artefact, Path], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        _prepare(tmp_path / "a", dataclasses.replace(SETTINGS, rate=0.1), interruption=_Stopping(3))
    assert _same(_prepare(tmp_path / "a"), whole[0])


class _SpoiltLater(nn.Module):
    """Gives numbers as long as nobody looks for latents by what it says of given ones: until the second stage."""

    def __init__(self) -> None:
        super().__init__()
        self.network = _network(1)
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.calls += 1
        logits: Tensor = self.network(inputs)
        return logits if self.calls <= 6 * (1 + DataFreeLearning._STUDENT_STEPS) + 2 else logits * math.nan


def test_what_diverges_in_the_second_stage_leaves_the_first(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match="anchor learning: the teacher's logits are not finite"):
        _prepare(tmp_path / "a", teacher=_SpoiltLater())
    assert list(ArtefactFolder(tmp_path / "a").stages) == ["data_free"]
    assert (tmp_path / "a" / "data_free.safetensors").exists()


def test_nothing_labelled_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    def batches(start: int) -> Iterator[Sample]:
        for sample in _batches(start):
            yield sample._replace(valid=torch.zeros(4, dtype=torch.bool))

    with pytest.raises(InputError, match="the student's own data have no label"):
        _prepare(tmp_path / "a", domain=dataclasses.replace(DOMAIN, batches=batches))
    assert not (tmp_path / "a").exists()


def test_a_teacher_without_memories_gets_one_warning(tmp_path: Path) -> None:
    console = Console(record=True, width=200, file=io.StringIO())
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    _prepare(tmp_path / "a", teacher=teacher, console=console)
    assert console.export_text().count("the teacher has no BatchNorm layers that remember") == 1


@pytest.mark.parametrize("damage", ["torn", "foreign", "nan"])
def test_damaged_files_are_told_in_one_line(whole: tuple[Artefact, Path], damage: str, tmp_path: Path) -> None:
    path = tmp_path / "a"
    shutil.copytree(whole[1], path)
    weights = path / "data_free.safetensors"
    if damage == "torn":
        weights.write_bytes(weights.read_bytes()[:100])
    elif damage == "foreign":
        weights.write_bytes((path / "anchor.safetensors").read_bytes())
    else:
        facts = json.loads((path / "anchor.json").read_text())
        facts["stages"]["data_free"]["seconds"] = math.nan
        (path / "anchor.json").write_text(json.dumps(facts))
    with pytest.raises(InputError) as caught:
        _prepare(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"latent": 0}, "latent=0 must be in"),
        ({"latent": 5000}, "latent=5000 must be in"),
        ({"invariant": 1.5}, r"invariant=1.5 must be in \[0, 1\]"),
        ({"invariant": math.nan}, "invariant=nan"),
        ({"rate": 0}, "rate=0 must be positive"),
        ({"labels": -1}, "labels=-1 must not be negative"),
        ({"uncertainty": "doubt"}, "uncertainty='doubt' is not known; use one of: energy, entropy, confidence"),
    ],
)
def test_settings_out_of_range(options: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Preparation(**options)
