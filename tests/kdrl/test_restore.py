"""Policies from runs' folders, of this release and of the first: to evaluate, and as teachers."""

import shutil
from pathlib import Path

import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticCnnPolicy

from common.configuration import read_settings
from common.errors import InputError
from common.runs.folder import Run
from common.runs.records import append_records
from common.runs.status import Status
from common.runs.weights import keep_teachers, save_weights
from kdrl.extractors import policy_kwargs
from kdrl.networks import PolicyLogits
from kdrl.procgen_game import OBSERVATION_SPACE
from kdrl.restore import load_network, load_teacher
from kdrl.settings import TrainSettings
from tests.rows import make_record

OLD = Path(__file__).parents[1] / "data" / "runs-0.1.0" / "kdrl.yaml"
ROW = make_record(task="rl", target="leaper/themed", domain="leaper/themed", metric="return", split="test")
FRAMES = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)


@pytest.fixture
def old(tmp_path: Path) -> Run:
    """A finished run as the first release left it: no identity, no status."""
    run = Run(tmp_path / "old")
    run.path.mkdir()
    shutil.copy(OLD, run.config_path)
    actions = spaces.Discrete(15)
    save_weights(ActorCriticCnnPolicy(OBSERVATION_SPACE, actions, lambda _: 0.0, **policy_kwargs("small", 32)), run)
    append_records(run.record_path, [ROW])
    return run


def test_a_run_of_the_first_release_is_evaluated_and_teaches(old: Run) -> None:
    policy, settings = load_network(old, device="cpu")
    assert settings == read_settings(OLD, TrainSettings, "rl")
    assert not policy.training
    teacher = load_teacher([str(old.path), str(old.path)], "leaper", device="cpu")
    assert torch.allclose(teacher(FRAMES), PolicyLogits(policy)(FRAMES).log_softmax(dim=1), atol=1e-5)


def test_what_a_run_keeps_of_its_teachers_can_be_loaded(old: Run, tmp_path: Path) -> None:
    student, new = Run(tmp_path / "student"), Run(tmp_path / "new")
    shutil.copytree(old.path, new.path)
    new.set_status(Status("finished", 256, 256))
    keep_teachers(student, [old, new])
    expected = load_teacher([str(old.path)], "leaper", device="cpu")(FRAMES)
    for number in range(2):
        kept = load_teacher([str(student.path / "teachers" / str(number))], "leaper", device="cpu")
        assert torch.equal(kept(FRAMES), expected)


def test_an_interrupted_run_is_no_teacher_unless_asked_for(old: Run) -> None:
    old.set_status(Status("training", 100, 256))
    with pytest.raises(InputError) as caught:
        load_teacher([str(old.path)], "leaper")
    assert str(caught.value).startswith(f"teacher={old.path} is not finished (training, 100 of 256 steps): ")
    load_teacher([str(old.path)], "leaper", unfinished=True)
    # Of before there was a status, a run without test rows is one.
    old.status_path.unlink()
    old.record_path.unlink()
    with pytest.raises(InputError, match="is not finished"):
        load_teacher([str(old.path)], "leaper")


@pytest.mark.parametrize("path", ["nowhere", "../..", "/", "/etc/passwd", ""])
def test_what_is_no_run_is_no_teacher(path: str) -> None:
    with pytest.raises(InputError, match="is not a run's folder"):
        load_teacher([path], "leaper")
