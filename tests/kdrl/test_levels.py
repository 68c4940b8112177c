"""Complementary teachers of policies: who has seen which level, and who is asked about which state."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecMonitor
from torch import Tensor, nn

from common.configuration import read_settings
from common.distillation import Distillation
from common.errors import InputError
from common.procgen import LevelSet
from common.runs.folder import Run
from common.teacher import Teacher
from common.terms import KD
from kdrl import DistilledPPO, ProcgenVecEnv
from kdrl.extractors import policy_kwargs
from kdrl.levels import UnseenLevels, levels_seen, seen_by_teachers
from kdrl.procgen_game import ProcgenSettings
from kdrl.settings import TrainSettings
from kdrl.teaching import answer_rollout
from kdrl.train import main as train

ENVIRONMENTS, STEPS = 4, 16


class _Always(nn.Module):
    """Prefers one action, whatever it is shown."""

    def __init__(self, action: int) -> None:
        super().__init__()
        logits = torch.zeros(15)
        logits[action] = 3.0
        self.register_buffer("logits", logits)
        self.logits: Tensor

    def forward(self, observations: Tensor) -> Tensor:
        return self.logits.expand(len(observations), -1)


class _Noted(ProcgenVecEnv):
    """Notes the level of every frame that it shows."""

    def reset(self) -> NDArray[np.uint8]:
        frames = super().reset()
        self.shown = [np.array(self.engine.info()["level_seed"])]
        return frames

    def step_wait(self) -> Any:
        result = super().step_wait()
        self.shown.append(np.array(self.engine.info()["level_seed"]))
        return result


def test_each_state_is_labelled_by_who_has_not_seen_its_level() -> None:
    # Starpilot's episodes are short: levels change within a rollout.
    env = _Noted("starpilot", num_envs=ENVIRONMENTS, levels=LevelSet.seen(0, 6), threads=0)
    teacher = Teacher([_Always(0), _Always(1), _Always(2)])
    method = Distillation({"kd": KD()}, teacher=teacher)
    settings: dict[str, Any] = {"n_steps": STEPS, "batch_size": 32, "n_epochs": 1, "seed": 0}
    model = DistilledPPO(
        "CnnPolicy", VecMonitor(env), distillation=method, policy_kwargs=policy_kwargs("small", 16), **settings
    )
    asked = model.distillation.teacher if model.distillation else None
    assert asked is not None
    seen = [LevelSet(0, 3), LevelSet(3, 3), None]
    found: list[Tensor] = []

    class Watched(UnseenLevels):
        def _on_rollout_end(self) -> None:
            super()._on_rollout_end()
            logits = answer_rollout(asked, self.model.rollout_buffer, False).logits  # type: ignore[attr-defined]
            found.append(logits.softmax(dim=1).view(ENVIRONMENTS, STEPS, 15))

    model.learn(3 * ENVIRONMENTS * STEPS, callback=Watched(asked, seen))
    levels = np.stack(env.shown[:-1]).reshape(3, STEPS, ENVIRONMENTS)
    assert len(np.unique(levels)) > 2
    one, other, third = (network(torch.zeros(1, 1)).softmax(dim=1)[0] for network in teacher.networks)
    for rollout, shown in zip(found, levels, strict=True):
        for step in range(STEPS):
            for number in range(ENVIRONMENTS):
                unseen = other if shown[step, number] < 3 else one
                torch.testing.assert_close(rollout[number, step], (unseen + third) / 2)


@pytest.fixture(scope="module")
def teachers(call: Callable[..., Any], tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("teachers")
    runs = [Run(folder / name) for name in ("first", "second")]
    for run, start in zip(runs, (0, 100), strict=True):
        outcome = call(train, *tiny, f"env.start_level={start}", "env.num_levels=100", f"run_dir={run.path}")
        assert (outcome.status, outcome.err) == (0, "")
    return runs


def test_what_teachers_have_seen_is_read_from_their_runs(teachers: list[Run]) -> None:
    env = read_settings(teachers[0].config_path, TrainSettings, task="rl").env
    whole = dataclasses.replace(env, start_level=0, num_levels=200)
    assert levels_seen(teachers, whole) == [LevelSet(0, 100), LevelSet(100, 100)]
    assert levels_seen(teachers[:1], dataclasses.replace(whole, look="plain")) == [None]
    for levels, lost in (((0, 200), 0), ((100, 1), None), ((99, 2), 99)):
        own = dataclasses.replace(env, start_level=levels[0], num_levels=levels[1])
        if lost is None:
            assert levels_seen(teachers[:1], own) == [LevelSet(0, 100)]
        else:
            with pytest.raises(InputError, match=f"every teacher has seen level {lost}; train one on other levels"):
                levels_seen(teachers[:1], own)


def test_a_teacher_that_has_seen_what_is_judged_as_unseen_is_told(teachers: list[Run]) -> None:
    env = read_settings(teachers[0].config_path, TrainSettings, task="rl").env
    assert isinstance(env, ProcgenSettings)
    for own, told in (
        ({"start_level": 0, "num_levels": 200}, []),
        ({"start_level": 0, "num_levels": 99}, ["1 of the 1,000 validation levels"]),  # 99 to 1,098
        ({"start_level": 0, "num_levels": 99, "difficulty": "hard"}, []),
        ({"start_level": 0, "num_levels": 200, "look": "generated"}, ["env.look=themed"]),
    ):
        student = dataclasses.replace(env, **own)
        found = seen_by_teachers(teachers[:1], student, student.parts(["themed", "generated"]))
        start = f"teacher={teachers[0].path} was trained on "
        assert found == [f"{start}{what}: scores there are not of what is unseen" for what in told]


def test_a_program_asks_them(call: Callable[..., Any], tiny: list[str], teachers: list[Run], tmp_path: Path) -> None:
    both = f"teacher=[{','.join(str(run.path) for run in teachers)}]"
    asked = ["method=kd", both, "teacher_domains=unseen", f"run_dir={tmp_path / 'student'}"]
    for mistake, said in {
        "driver=mixed": "teachers that act answer together; use driver=student",
        "method=value_distillation": "method=value_distillation asks for values of all",
        f"teacher=[{teachers[0].path},{teachers[0].path}]": "every teacher has seen level 0",
    }.items():
        outcome = call(train, *tiny, *asked, mistake)
        assert outcome.status == 2 and said in outcome.err
        assert not (tmp_path / "student").exists()
    # 150 levels: the next thousand validate, and the second teacher has played fifty of them.
    outcome = call(train, *tiny, *asked, "env.num_levels=150")
    assert (outcome.status, outcome.err) == (0, "")
    warned = f"warning: teacher={teachers[1].path} was trained on 50 of the 1,000 validation levels: scores there are"
    assert warned in outcome.out and outcome.out.count("warning:") == 1
    identity = Run(tmp_path / "student").identity()
    assert identity is not None and identity.row["teacher_domains"] == "unseen"
