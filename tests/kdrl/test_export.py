"""Stock Stable-Baselines3 takes what we write, in a process that cannot import this package."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from torch import nn

from common.averaging import WAKD
from common.distillation import Distillation
from common.runs.folder import Run
from common.teacher import Teacher
from common.terms import AIKD, KD, SDDropout
from kdrl import DistilledPPO, ProcgenVecEnv, policy_kwargs
from kdrl.drivers import Driver
from kdrl.export import save_stock, stock_ppo
from kdrl.restore import load_network
from kdrl.train import main as train

# What stands in the way of an import there: the package's own names.
ALONE = """
import sys
for name in ("common", "kdrl", "kdseg"):
    sys.modules[name] = None
import numpy as np, torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
observations, learns, *archives = sys.argv[1:]
obs = torch.as_tensor(np.load(observations))
for archive in archives:
    model = PPO.load(archive, device="cpu")
    assert type(model) is PPO and type(model.policy).__module__.startswith("stable_baselines3"), type(model)
    with torch.no_grad():
        np.save(archive + ".npy", model.policy.get_distribution(obs).distribution.logits.numpy())
if learns == "True":
    model.set_env(make_vec_env("CartPole-v1", 4))
    model.learn(64)
    assert model._n_updates > 0
"""

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "seed": 0, "device": "cpu"}


def elsewhere(
    archives: Sequence[Path], observations: np.ndarray, folder: Path, learns: bool = False
) -> list[np.ndarray]:
    """The logits of each archive's policy, in one process, in which the last of them may learn on."""
    np.save(folder / "observations.npy", observations)
    command = [sys.executable, "-c", ALONE, folder / "observations.npy", learns, *archives]
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    return [np.load(f"{archive}.npy") for archive in archives]


@torch.no_grad()
def logits(policy: Any, observations: np.ndarray) -> np.ndarray:
    found: np.ndarray = policy.get_distribution(torch.as_tensor(observations)).distribution.logits.numpy()
    return found


@pytest.fixture
def student() -> DistilledPPO:
    """With everything that must stay out: a teacher, terms with networks of their own, a driver, an average."""
    teacher = Teacher([nn.Sequential(nn.Flatten(), nn.Linear(4, 2))])
    method = Distillation({"kd": KD(), "ai_kd": AIKD(), "sd_dropout": SDDropout()}, teacher=teacher)
    driver, averaging = Driver(teacher_share=0.5, random_steps=2), WAKD()
    env = make_vec_env("CartPole-v1", 4)
    model = DistilledPPO("MlpPolicy", env, distillation=method, driver=driver, averaging=averaging, **SMALL)
    return model.learn(128)


def test_a_distilled_policy_is_stock_ppo_elsewhere_and_goes_on(student: DistilledPPO, tmp_path: Path) -> None:
    student.save_stock(tmp_path / "stock")
    observations = np.random.default_rng(0).normal(size=(32, 4)).astype(np.float32)
    answers = elsewhere([tmp_path / "stock.zip"], observations, tmp_path, learns=True)
    np.testing.assert_array_equal(answers[0], logits(student.policy, observations))


def test_the_optimiser_goes_on_where_it_was(student: DistilledPPO, tmp_path: Path) -> None:
    student.save_stock(tmp_path / "stock")
    stock = PPO.load(tmp_path / "stock", device="cpu")
    mine, its = student.policy.optimizer.state_dict(), stock.policy.optimizer.state_dict()
    assert len(its["param_groups"]) == 1
    assert len(its["state"]) == len(list(stock.policy.parameters()))
    for number, values in its["state"].items():
        torch.testing.assert_close(values, mine["state"][number], rtol=0, atol=0)
    assert stock.num_timesteps == 128 and stock.n_steps == 16


def test_averaged_weights_can_be_taken(student: DistilledPPO, tmp_path: Path) -> None:
    student.save_stock(tmp_path / "stock", averaged=True)
    stock = PPO.load(tmp_path / "stock", device="cpu")
    for key, tensor in student.averaged_policy().state_dict().items():
        torch.testing.assert_close(stock.policy.state_dict()[key], tensor, rtol=0, atol=0)
    assert any(
        not torch.equal(tensor, student.policy.state_dict()[key]) for key, tensor in stock.policy.state_dict().items()
    )


def test_saving_changes_nothing(student: DistilledPPO, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    student.save_stock(tmp_path / "stock")
    assert torch.equal(torch.get_rng_state(), before)
    assert student.distillation is not None and student.averaging is not None
    student.learn(64, reset_num_timesteps=False)


def test_our_extractors_and_runs_travel_with_their_archives(
    call: Callable[..., Any], tiny: list[str], tmp_path: Path
) -> None:
    env = ProcgenVecEnv("leaper", 2, threads=0)
    frames = np.random.default_rng(0).integers(0, 256, (4, 3, 64, 64), dtype=np.uint8)
    expected = {}
    for extractor in ("small", "impala"):
        model = DistilledPPO("CnnPolicy", env, policy_kwargs=policy_kwargs(extractor, 16), **SMALL)
        save_stock(model, tmp_path / f"{extractor}.zip")
        expected[tmp_path / f"{extractor}.zip"] = logits(model.policy, frames)
    env.close()
    run = tmp_path / "run"
    short = ["total_timesteps=128", "evaluation.episodes=1", "evaluation.looks=[]", "averaging=wakd"]
    assert call(train, *tiny, *short, f"run_dir={run}").status == 0
    for weights in ("last", "averaged"):
        save_stock(stock_ppo(run, weights), tmp_path / f"{weights}.zip")
        expected[tmp_path / f"{weights}.zip"] = logits(load_network(Run(run), weights, "cpu")[0], frames)
    for archive, answers in zip(expected, elsewhere(list(expected), frames, tmp_path), strict=True):
        np.testing.assert_allclose(answers, expected[archive], rtol=1e-5, atol=1e-6)
