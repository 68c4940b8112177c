"""The digits benchmark runs, resumes and makes its table; what comes out of it is not a test's business."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.digits import run, table
from benchmarks.digits.adapter import Classification, DigitNetwork
from benchmarks.digits.domains import SEEN, TRAINED, UNSEEN, Split, rotated, split
from benchmarks.lines import read
from common.distillation import Distillation
from common.errors import NonFiniteLossError
from common.teacher import Teacher
from common.terms import KD, TermOutput
from common.view import View


@pytest.fixture(scope="module")
def digits() -> Split:
    return split(0, rotated())


def test_images_are_turned_about_their_centre_and_held_out_at_every_angle(digits: Split) -> None:
    assert set(digits.images) == {*SEEN, *UNSEEN}
    assert all(images.shape == (1797, 1, 16, 16) for images in digits.images.values())
    assert min(float(images.min()) for images in digits.images.values()) >= -0.5
    upright, turned = digits.images[0], digits.images[45]
    torch.testing.assert_close(turned[:, :, 7:9, 7:9].mean(), upright[:, :, 7:9, 7:9].mean(), rtol=0.05, atol=0.02)
    assert not torch.equal(upright, turned)
    both = torch.cat([digits.trained, digits.held_out])
    assert both.sort().values.tolist() == list(range(1797))
    images, labels = digits.training()
    assert len(images) == len(labels) == TRAINED * len(SEEN)
    assert torch.equal(images[TRAINED + 3], digits.images[SEEN[1]][digits.trained[3]])
    assert not torch.equal(split(1, rotated()).trained, digits.trained)


def test_minibatches_are_those_of_the_seed_and_cover_an_epoch() -> None:
    samples = torch.arange(200, 400)
    batches = list(run.minibatches(samples, 5, seed=3))
    assert [last for _, last in batches] == [False, False, True, False, False]
    epoch = torch.cat([batch for batch, _ in batches[:3]])
    assert len(set(epoch.tolist())) == 192
    assert set(epoch.tolist()) <= set(samples.tolist())
    for (ours, _), (theirs, _) in zip(batches, run.minibatches(samples, 5, seed=3), strict=True):
        assert torch.equal(ours, theirs)


def test_folds_are_of_images_and_teachers_have_not_seen_theirs(digits: Split) -> None:
    teacher = run.Teachers(digits, 0, steps=2).folds()
    assert teacher.folds is not None
    assert teacher.folds.view(len(SEEN), TRAINED).unique(dim=0).shape[0] == 1
    assert len(teacher.networks) == run.FOLDS


def test_terms_can_ask_the_teacher_about_other_images(digits: Split) -> None:
    images, labels = digits.training()
    seen = []

    class Asks(KD):
        def forward(self, view: View) -> TermOutput:
            assert view.teacher is not None and view.teacher_logits is not None
            seen.append((view.teacher(view.inputs), view.teacher_logits, view.teacher(images[8:11])))
            return super().forward(view)

    torch.manual_seed(0)
    teacher = Teacher([DigitNetwork()])
    method = Distillation({"asks": Asks()}, teacher=teacher)
    Classification(DigitNetwork(), method, 2, (images[:2], labels[:2])).step(images[:8], labels[:8], torch.arange(8))
    ((same, logits, other),) = seen
    assert torch.equal(same, logits) and torch.equal(other, teacher(images[8:11]))
    assert not other.requires_grad


def test_a_loss_that_is_not_a_number_is_not_taken(digits: Split) -> None:
    images, labels = digits.training()
    network = DigitNetwork()
    training = Classification(network, Distillation(name="erm"), 2, (images[:2], labels[:2]))
    before = network.head.weight.detach().clone()
    index = torch.arange(4)
    with pytest.raises(NonFiniteLossError, match="the loss is nan at step 0"):
        training.step(images[:4] * float("nan"), labels[:4], index)
    assert torch.equal(network.head.weight, before)


def test_it_runs_goes_on_and_makes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "results.jsonl"
    names = ["erm", "kddg_sdd", run.CONTROL]
    run.run_seed(0, names[:2], path, steps=3)
    with path.open("a") as file:
        file.write('{"method": "torn')
    assert len(read(path)) == 2
    for seed in (0, 1):
        run.run_seed(seed, names, path, steps=3)
    rows = read(path)
    assert sorted((row["method"], row["seed"]) for row in rows) == sorted(
        (name, seed) for name in names for seed in (0, 1)
    )
    assert len(capsys.readouterr().out.splitlines()) == len(rows)
    run.run_seed(0, names, path, steps=3)
    assert read(path) == rows
    # A cell is what it is whenever it is run.
    again = run.cell("kddg_sdd", 1, split(1), run.Teachers(split(1), 1, 3), 3)
    assert again["scores"] == next(row["scores"] for row in rows if (row["method"], row["seed"]) == ("kddg_sdd", 1))
    text = table.page(rows, None)
    assert "2 seeds, 3 steps each" in text
    assert text.count("| kddg_sdd |") == 3
    assert "method=drac: drac needs values" in text


def made(method: str, seed: int, unseen: float) -> dict[str, Any]:
    part = {"accuracy": unseen, "ece": 0.1}
    scores = {"seen": part, "unseen": part}
    seconds = {"seconds": 2.0, "processor_seconds": 1.0 + (method != "erm")}
    row = {"method": method, "seed": seed, "steps": 1, "overrides": [], "scores": {"live": scores, "wakd": scores}}
    return json.loads(json.dumps(row | seconds))


def test_differences_are_paired_by_seed_and_of_whole_seeds() -> None:
    # Seeds differ a lot, methods by two points in every one.
    rows = [
        made(name, seed, 0.5 + 0.04 * seed + 0.02 * (name == "kd") * (1 + 0.1 * (-1) ** seed))
        for name in ("erm", "kd")
        for seed in range(4)
    ]
    rows.append(made("kd", 99, 0.0))
    cells = table.complete(rows)
    assert list(cells["kd"]) == list(range(4))
    lines = table.comparison(cells, "live")
    kd = next(line for line in lines if line.startswith("| kd "))
    # Two points give or take a fifth of one: t = 2 / (0.231 / 2) with three degrees of freedom.
    assert "+2.0 [+1.8, +2.2]" in kd
    assert "| 0.000 |" in kd
    assert kd.endswith("| 2.00 |")
    assert np.isclose(table.mean(cells, "kd", "live", "unseen", "accuracy"), 58.0)
    with pytest.raises(ValueError, match="no erm"):
        table.complete(rows[4:])
    with pytest.raises(ValueError, match="no seed"):
        table.complete([made("erm", 0, 0.1), made("kd", 1, 0.1)])


def test_what_the_core_cannot_serve_here_needs_a_critic_or_actions() -> None:
    refusals = run.refusals()
    assert refusals.pop("augkd") == "augkd is compared in benchmarks/augkd"
    assert all("plain classification does not have" in reason for reason in refusals.values())
    assert {"erm", "kd", "kddg", "sd_dropout", "byot"}.isdisjoint(refusals)
