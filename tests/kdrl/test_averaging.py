"""Averaged policies beside the live ones: in PPO, in its archives, in a run's folder."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gymnasium
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from common.averaging import EMA, SMA, SWAD, WAKD, Averager, reestimate_batch_norm
from common.configuration import read_settings
from common.distillation import Distillation
from common.errors import InputError
from common.procgen.constants import normalized_return
from common.runs.folder import Run
from common.runs.interruption import Interruption
from common.runs.items import item_key
from common.runs.keeper import Keeper
from common.runs.status import Status
from common.terms import SDDropout
from kdrl import DistilledPPO
from kdrl.callbacks import LevelValidation
from kdrl.configured import make_env
from kdrl.episodes import play_part
from kdrl.extractors import policy_kwargs
from kdrl.networks import PolicyLogits
from kdrl.settings import TrainSettings
from kdrl.train import main as train

Call = Callable[..., Any]
State = dict[str, Tensor]
SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 1}


def cartpole(num_envs: int = 4) -> VecEnv:
    return make_vec_env("CartPole-v1", num_envs)


def student(averaging: Averager | None, **options: Any) -> DistilledPPO:
    return DistilledPPO("MlpPolicy", cartpole(), averaging=averaging, **{**SMALL, **options})


def watch(model: DistilledPPO) -> list[State]:
    """The policy's state after every step of the optimiser, from now on."""
    states: list[State] = []

    def keep(*_: Any) -> None:
        states.append({name: value.clone() for name, value in model.policy.state_dict().items()})

    model.policy.optimizer.register_step_post_hook(keep)
    return states


def assert_mean(network: nn.Module, states: Iterable[State]) -> None:
    kept = list(states)
    for name, value in network.state_dict().items():
        expected = torch.stack([state[name] for state in kept]).double().mean(dim=0)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


def assert_equal(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert list(ours) == list(theirs)
    assert [name for name in ours if ours[name] is not theirs[name] and not same(ours[name], theirs[name])] == []


def same(first: Any, second: Any) -> bool:
    return torch.equal(first, second) if isinstance(first, Tensor) else first == second


# --- PPO -------------------------------------------------------------------------------------------------------------


def test_the_average_is_the_mean_of_the_policies_after_each_gradient_step() -> None:
    model = student(WAKD(start=0.5))
    states = watch(model)
    model.learn(4 * 64)
    assert len(states) == 4 * 2 * 2  # rollouts, epochs, minibatches
    averaged = model.averaged_policy()
    assert_mean(averaged, states[4:])  # the rollouts at progress 0.5, 0.75 and 1
    assert model.averaging is not None and model.averaging._current().count == 12
    assert not averaged.training and not any(parameter.requires_grad for parameter in averaged.parameters())
    observation = model.observation_space.sample()
    assert averaged.predict(observation, deterministic=True)[0] in (0, 1)
    # Averaging only reads.
    assert_equal(model.policy, PPO("MlpPolicy", cartpole(), **SMALL).learn(4 * 64).policy)


def test_only_steps_that_are_taken_count() -> None:
    model = student(WAKD(start=0.0), target_kl=1e-4, learning_rate=1e-2, n_epochs=4)
    states = watch(model)
    model.learn(4 * 64)
    assert 0 < len(states) < 4 * 4 * 2
    assert_mean(model.averaged_policy(), states)


def test_a_method_with_terms_is_averaged_too() -> None:
    model = student(EMA(decay=0.5), distillation=Distillation({"sd_dropout": SDDropout(weight=0.1)}))
    states = watch(model)
    model.learn(2 * 64)
    weights = 0.5 ** torch.arange(len(states) - 1, -1, -1, dtype=torch.float64)
    for name, value in model.averaged_policy().state_dict().items():
        each = torch.stack([state[name] for state in states]).double()
        expected = torch.tensordot(weights / weights.sum(), each, dims=1)
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("averager", [lambda: WAKD(start=0.3), lambda: SMA(0.0), lambda: SWAD(n_s=2, n_e=1, r=1.0)])
def test_an_archive_keeps_the_average(averager: Callable[[], Averager], tmp_path: Path) -> None:
    model = student(averager())
    for loss in (1.0, 2.0):
        model.learn(2 * 64, reset_num_timesteps=False)
        model.after_validation(loss)
    model.save(tmp_path / "model")
    loaded, again = (DistilledPPO.load(tmp_path / "model", cartpole(), device="cpu") for _ in range(2))
    assert loaded.averaging is not None and model.averaging is not None
    assert type(loaded.averaging) is type(model.averaging)
    assert_equal(loaded.averaging, model.averaging)
    assert_equal(loaded.averaged_policy(), model.averaged_policy())
    # It goes on, and the archive can be made again.
    for one in (loaded, again):
        one.set_random_seed(3)
        one.learn(64)
    assert_equal(loaded.averaged_policy(), again.averaged_policy())
    loaded.save(tmp_path / "next")
    assert_equal(DistilledPPO.load(tmp_path / "next", device="cpu").averaged_policy(), loaded.averaged_policy())


def test_an_archive_without_averaging_is_averaged_from_then_on(tmp_path: Path) -> None:
    PPO("MlpPolicy", cartpole(), **SMALL).learn(64).save(tmp_path / "stock")
    student(None).learn(64).save(tmp_path / "plain")
    for name in ("stock", "plain"):
        assert DistilledPPO.load(tmp_path / name, device="cpu").averaging is None
        model = DistilledPPO.load(tmp_path / name, cartpole(), averaging=WAKD(start=0.0), device="cpu")
        states = watch(model)
        assert_mean(model.learn(64).averaged_policy(), states)


class Weighted(WAKD):
    """An averager with a constant that is no part of its state."""

    def __init__(self) -> None:
        super().__init__(start=0.0)
        self.register_buffer("constants", torch.linspace(2.0, 3.0, 64), persistent=False)
        self.constants: Tensor


def test_an_archive_keeps_what_is_no_part_of_the_averagers_state(tmp_path: Path) -> None:
    student(Weighted()).learn(64).save(tmp_path / "model")
    loaded = DistilledPPO.load(tmp_path / "model", cartpole(), device="cpu")
    assert isinstance(loaded.averaging, Weighted)
    assert torch.equal(loaded.averaging.constants, torch.linspace(2.0, 3.0, 64))


def test_averaging_may_begin_between_two_calls_of_learn() -> None:
    model = student(None).learn(64)
    model.set_averaging(WAKD(start=0.0))
    states = watch(model)
    model.learn(64, reset_num_timesteps=False)
    assert_mean(model.averaged_policy(), states)
    model.set_averaging(None)
    with pytest.raises(InputError, match="nothing is averaged; give DistilledPPO"):
        model.averaged_policy()


class Normed(BaseFeaturesExtractor):
    """Features with batch statistics."""

    def __init__(self, observation_space: Any) -> None:
        super().__init__(observation_space, 8)
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh())

    def forward(self, observations: Any) -> Tensor:
        features: Tensor = self.layers(observations["state"] if isinstance(observations, dict) else observations)
        return features


def test_batch_statistics_are_reestimated_from_the_latest_rollout(tmp_path: Path) -> None:
    options = {"policy_kwargs": {"features_extractor_class": Normed}}
    model = student(WAKD(start=0.0, buffers="reestimate"), **options).learn(2 * 64)
    assert model.averaging is not None
    expected = model.averaging.finish()
    frames = torch.as_tensor(model.rollout_buffer.observations)
    reestimate_batch_norm(expected, frames.split(32), lambda batch: expected.extract_features(batch))  # type: ignore[operator]
    assert_equal(model.averaged_policy(), expected)
    assert not same(expected.state_dict()["features_extractor.layers.1.running_mean"], torch.zeros(8))
    model.save(tmp_path / "model")
    with pytest.raises(InputError, match="buffers=reestimate needs a rollout; call learn first"):
        DistilledPPO.load(tmp_path / "model", device="cpu").averaged_policy()


def test_policies_that_cannot_be_averaged_are_refused_at_construction() -> None:
    with pytest.raises(InputError, match="set use_sde=False"):
        DistilledPPO("MlpPolicy", make_vec_env("Pendulum-v1", 1), averaging=WAKD(), use_sde=True)

    class Dictionary(gymnasium.ObservationWrapper[Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(gymnasium.make("CartPole-v1"))
            self.observation_space = spaces.Dict({"state": self.env.observation_space})

        def observation(self, observation: Any) -> Any:
            return {"state": observation}

    env = make_vec_env(Dictionary, 4)  # type: ignore[arg-type]
    normed = {"features_extractor_class": Normed}
    with pytest.raises(InputError, match="use buffers=average"):
        DistilledPPO("MultiInputPolicy", env, averaging=WAKD(), policy_kwargs=normed)
    DistilledPPO("MultiInputPolicy", env, averaging=WAKD(buffers="average"), policy_kwargs=normed)
    model = DistilledPPO("MultiInputPolicy", env, averaging=WAKD(start=0.0), **SMALL)
    states = watch(model)
    assert_mean(model.learn(64).averaged_policy(), states)


# --- the programs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory, call: Call, tiny: list[str]) -> Run:
    run = Run(tmp_path_factory.mktemp("averaged") / "run")
    short = ["evaluation.every=128", "evaluation.progress_episodes=4", "evaluation.looks=[]", "averaging=wakd"]
    assert call(train, *tiny, *short, f"run_dir={run.path}").status == 0
    return run


def test_a_run_has_the_returns_of_both_choices_of_weights(averaged: Run) -> None:
    # At the first point of the curve no update has been made yet.
    curve = [record for record in averaged.records() if (record.split, record.selection) == ("progress", "averaged")]
    assert {(record.seen, record.steps) for record in curve} == {(False, 256)}
    items = averaged.items()
    tests = [record for record in averaged.records() if (record.split, record.metric) == ("test", "return")]
    for seen in (True, False):
        found = items[item_key("return", "leaper/themed", seen, "averaged")]
        values = [record.value for record in tests if record.selection == "averaged" and record.seen == seen]
        assert values == [found.mean()]
        assert len(items[item_key("level", "leaper/themed", seen, "averaged")]) == len(found)


class Watched(SMA):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(start=0.0)
        self.told: list[float] = []

    def after_validation(self, model: nn.Module, loss: float, progress: float) -> None:
        self.told.append(loss)
        super().after_validation(model, loss, progress)


def test_the_validation_loss_is_what_is_missing_to_the_highest_return(averaged: Run, tmp_path: Path) -> None:
    settings = read_settings(averaged.config_path, TrainSettings, "rl")
    _, validation, _ = settings.env.parts([])
    env, averaging = make_env(settings), Watched()
    judge = LevelValidation(settings, validation, Keeper(Run(tmp_path), 1, Interruption(), "", Status("training")))
    network = policy_kwargs("small", 32)
    model = DistilledPPO("CnnPolicy", env, averaging=averaging, policy_kwargs=network, **SMALL)
    model.learn(2 * 128, callback=judge)
    judge.finish()
    env.close()
    # At 128 steps nothing is averaged yet; then at 256, before the last update, and after it.
    assert len(averaging.told) == 2
    played = play_part(PolicyLogits(averaging.averaged), settings.env, validation, 4, settings.seed)  # type: ignore[arg-type]
    missing = 1.0 - normalized_return("leaper", "easy", float(played.returns.mean()))
    assert averaging.told[-1] == pytest.approx(max(0.0, float(missing)))
    assert averaging.best_loss == min(averaging.told) >= 0
