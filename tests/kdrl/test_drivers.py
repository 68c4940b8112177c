"""Who acts: whose actions and log-probabilities a rollout holds, and the ways to distil a policy that follow."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from common.configuration import read_settings
from common.distillation import Distillation
from common.errors import InputError
from common.runs.folder import Run
from common.schedule import LinearSchedule
from common.teacher import Teacher
from common.terms import KD, PPD, ProbabilityMSE, Term, TermOutput, ValueDistillation
from common.view import View
from kdrl import DistilledPPO
from kdrl.drivers import Driver
from kdrl.episodes import play_part
from kdrl.evaluate import main as evaluate
from kdrl.networks import PolicyJudge, PolicyLogits
from kdrl.restore import load_teacher
from kdrl.settings import TrainSettings
from kdrl.teaching import answer_rollout
from kdrl.train import main as train

SMALL: dict[str, Any] = {"n_steps": 16, "batch_size": 64, "n_epochs": 1, "device": "cpu", "seed": 1}


def cartpole() -> VecEnv:
    return make_vec_env("CartPole-v1", 4)


def policy(seed: int = 5, std: float = 4.0) -> ActorCriticPolicy:
    """An untrained policy with opinions, of actions and of values."""
    network = PPO("MlpPolicy", cartpole(), **{**SMALL, "seed": seed}).policy
    for head in (network.action_net, network.value_net):
        nn.init.normal_(head.weight, std=std)
    return network


class Always(nn.Module):
    """A teacher that is all but sure of one action and remembers how many observations each call had."""

    def __init__(self, action: int = 0) -> None:
        super().__init__()
        self.logits = nn.Parameter(20 * nn.functional.one_hot(torch.tensor(action), 2).float())
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        self.sizes.append(len(inputs))
        return self.logits.expand(len(inputs), -1)


def kd(*networks: nn.Module, task_weight: float = 0.0, **terms: Term) -> Distillation:
    return Distillation(terms or {"kd": KD()}, task_weight, Teacher(networks or [Always()]))


def student(distillation: Distillation | None, driver: Driver | None = None, **options: Any) -> DistilledPPO:
    env = cartpole()
    return DistilledPPO("MlpPolicy", env, distillation=distillation, driver=driver, **{**SMALL, **options})


def collect(model: DistilledPPO) -> DistilledPPO:
    """One rollout, no update."""
    model.train = lambda: None  # type: ignore[method-assign]
    return model.learn(model.n_steps * model.n_envs, reset_num_timesteps=False)


def rollout(model: DistilledPPO) -> dict[str, Tensor]:
    """What is in the buffer, ``[steps, envs, ...]``."""
    buffer = model.rollout_buffer
    names = ("observations", "actions", "log_probs", "values", "episode_starts")
    return {name: torch.as_tensor(getattr(buffer, name)) for name in names}


# --- whose actions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("driver", [None, Driver(), Driver(1.0, until=0.0), Driver(0.0, until=0.5)])
def test_a_student_that_drives_is_stock_ppo_bit_for_bit(driver: Driver | None) -> None:
    stock = PPO("MlpPolicy", cartpole(), **SMALL).learn(3 * 64)
    ours = student(None, driver).learn(3 * 64)
    for mine, theirs in zip(ours.policy.parameters(), stock.policy.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_a_teacher_that_drives_leaves_its_log_probabilities_and_the_students_values() -> None:
    teacher = policy()
    model = collect(student(kd(PolicyLogits(teacher)), Driver(1.0), n_steps=32))
    held = rollout(model)
    flat = held["observations"].flatten(0, 1)
    with torch.no_grad():
        expected = PolicyLogits(teacher)(flat).log_softmax(1).gather(1, held["actions"].flatten(0, 1).long())
        values = model.policy.predict_values(flat)
    torch.testing.assert_close(held["log_probs"].flatten(), expected[:, 0])
    torch.testing.assert_close(held["values"].flatten(), values[:, 0])
    # The actions are sampled from the teacher: as probable as its own entropy says.
    with torch.no_grad():
        probabilities = PolicyLogits(teacher)(flat).softmax(1)
    taken = torch.nn.functional.one_hot(held["actions"].flatten().long(), 2).float()
    assert (taken - probabilities).mean(0).abs().max() < 0.12
    assert not model.policy._forward_hooks  # nothing is left behind


def test_a_mixed_driver_gives_whole_episodes_to_one_or_the_other() -> None:
    model = student(kd(Always(0)), Driver(0.5), n_steps=256)
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(torch.tensor([0.0, 20.0]))  # the student always takes the other action
    held = rollout(collect(model))
    actions, starts = held["actions"].squeeze(-1).T, held["episode_starts"].T.bool()
    owners = []
    for row, begins in zip(actions, starts, strict=True):
        for episode in torch.tensor_split(row, begins.nonzero()[1:, 0]):
            assert len(episode.unique()) == 1
            owners.append(episode[0].item())
    assert len(owners) > 60 and 0.35 < np.mean(owners) < 0.65
    assert (held["log_probs"] > -1e-6).all()  # each was sure


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_episodes_begin_with_up_to_so_many_uniform_actions(share: float) -> None:
    model = student(kd(Always(0)), Driver(share, random_steps=5), n_steps=512)
    with torch.no_grad():
        model.policy.action_net.weight.zero_()
        model.policy.action_net.bias.copy_(torch.tensor([20.0, 0.0]))
    held = rollout(collect(model))
    log_probs, starts = held["log_probs"].T, held["episode_starts"].T.bool()
    at_random = (log_probs + math.log(2)).abs() < 1e-6
    lengths = []
    for row, begins in zip(at_random, starts, strict=True):
        for episode in torch.tensor_split(row, begins.nonzero()[1:, 0]):
            assert torch.equal(episode, episode.sort(descending=True).values)  # at the beginning only
            lengths.append(int(episode.sum()))
    assert set(lengths[:-1]) <= set(range(6)) and len(set(lengths)) == 6
    assert 0.4 < held["actions"].squeeze(-1).T[at_random].float().mean() < 0.6
    assert (held["actions"].squeeze(-1).T[~at_random] == 0).all()


def test_chance_needs_no_teacher() -> None:
    model = student(None, Driver(random_steps=3)).learn(2 * 64)
    assert model.num_timesteps == 128


def asked(model: DistilledPPO) -> list[int]:
    """How many observations each question to the model's teacher had."""
    assert model.distillation is not None and model.distillation.teacher is not None
    (network,) = model.distillation.teacher.networks
    assert isinstance(network, Always)
    return network.sizes


def test_shares_follow_training_and_end() -> None:
    falling = Driver(LinearSchedule(1.0, 0.0), until=0.5)
    assert [falling.share_at(progress) for progress in (0.0, 0.25, 0.5, 0.9)] == [1.0, 0.75, 0.0, 0.0]
    assert falling.asks_teacher and not falling.is_student
    model = student(kd(Always(0)), Driver(1.0, until=0.5), n_steps=64)
    model.learn(6 * 256)
    # Acted in the first half: asked in steps; later once a rollout, when the last of its episodes has ended.
    assert asked(model)[1:193] == [4] * 192 and asked(model)[-1] == 256


def test_the_same_seed_drives_the_same_way() -> None:
    first, second = (student(kd(PolicyLogits(policy())), Driver(0.5, random_steps=4)).learn(3 * 64) for _ in range(2))
    for ours, theirs in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# --- what the teacher says is asked once -----------------------------------------------------------------------------


def test_a_teacher_that_acts_is_not_asked_again() -> None:
    model = student(kd(Always()), Driver(1.0)).learn(2 * 64)
    assert asked(model) == [1, *[4] * 32]  # the check of its shape, then each step


def test_what_it_said_is_what_it_would_say() -> None:
    teacher = Teacher([PolicyJudge(policy())])
    distillation = Distillation({"kd": KD(), "value": ValueDistillation()}, teacher=teacher)
    model = collect(student(distillation, Driver(0.5)))
    assert model._behaviour is not None
    heard = answer_rollout(teacher, model.rollout_buffer, True, model._behaviour.answers)
    asked = answer_rollout(teacher, model.rollout_buffer, True)
    torch.testing.assert_close(heard.logits, asked.logits)
    torch.testing.assert_close(heard.values, asked.values)
    assert heard.values is not None and heard.values.std() > 0.1 and heard.logits.std() > 0.1


class Sees(KD):
    """Keeps the views it was shown."""

    def forward(self, view: View) -> TermOutput:
        self.__dict__.setdefault("views", []).append(view)
        return super().forward(view)


@pytest.mark.parametrize("driver", [Driver(), Driver(1.0)])
def test_every_transition_has_its_teachers_value_and_its_ratio(driver: Driver) -> None:
    judge, term = PolicyJudge(policy()), Sees()
    distillation = kd(judge, sees=term, value=ValueDistillation(0.0))
    model = student(distillation, driver, batch_size=32)
    before = copy.deepcopy(model.policy)
    model.learn(64)
    view = term.__dict__["views"][0]
    logits, values = judge.judge(view.inputs)
    torch.testing.assert_close(view.teacher_values, values)
    torch.testing.assert_close(view.teacher_logits, logits)
    assert not view.teacher_values.requires_grad and view.ratio.requires_grad
    actions = torch.as_tensor(model.rollout_buffer.actions)[view.index].long()
    ours = PolicyLogits(before)(view.inputs).log_softmax(1).gather(1, actions)[:, 0]
    theirs = logits.log_softmax(1).gather(1, actions)[:, 0]
    expected = torch.ones(32) if driver.is_student else (ours - theirs).exp()
    torch.testing.assert_close(view.ratio, expected, rtol=1e-4, atol=1e-5)


# --- the ways to distil a policy -------------------------------------------------------------------------------------


def test_iter_is_ppo_on_the_teachers_actions_and_both_distillations() -> None:
    teacher = policy(std=1.0)
    alpha = LinearSchedule(1.0, 0.0, fraction=0.5)
    distillation = kd(PolicyJudge(teacher), task_weight=1.0, kd=KD(alpha), value=ValueDistillation(alpha))
    model = student(distillation, Driver(1.0, until=0.5), vf_coef=0.3, ent_coef=0.02, normalize_advantage=False)
    before = copy.deepcopy(model.policy)
    model._setup_learn(4 * 64)
    model.collect_rollouts(model.env, model._init_callback(None), model.rollout_buffer, 16)  # type: ignore[arg-type]
    model._current_progress_remaining = 0.75
    model.train()
    buffer = model.rollout_buffer
    observations, actions = torch.as_tensor(buffer.observations), torch.as_tensor(buffer.actions).long()
    advantages, returns = (torch.as_tensor(part).flatten() for part in (buffer.advantages, buffer.returns))
    with torch.no_grad():
        p, q = PolicyLogits(before)(observations).log_softmax(1), PolicyLogits(teacher)(observations).log_softmax(1)
        values, theirs = before.predict_values(observations)[:, 0], teacher.predict_values(observations)[:, 0]
        ratio = (p - q).gather(1, actions)[:, 0].exp()
        assert ((ratio - 1).abs() > 0.2).any()
        ppo = -torch.min(advantages * ratio, advantages * ratio.clamp(0.8, 1.2)).mean()
        ppo += 0.02 * (p.exp() * p).sum(1).mean() + 0.3 * (returns - values).square().mean()
        taught = (q.exp() * (q - p)).sum(1).mean() + 0.5 * (theirs - values).square().mean()
    assert model.logger.name_to_value["train/loss"] == pytest.approx((ppo + 0.5 * taught).item(), rel=1e-4)
    assert model.logger.name_to_value["distillation/value/weight"] == 0.5


def test_without_reward_the_critic_and_the_entropy_are_left_alone() -> None:
    model = student(kd(PolicyLogits(policy())), ent_coef=0.5, n_epochs=3, seed=2)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(2 * 64)
    after = model.policy.state_dict()
    critic = {name for name in before if "value" in name}
    assert critic and {name for name in before if torch.equal(before[name], after[name])} == critic
    # As if there were no entropy bonus at all.
    other = student(kd(PolicyLogits(policy())), ent_coef=0.0, n_epochs=3, seed=2).learn(2 * 64)
    for ours, theirs in zip(model.policy.parameters(), other.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


LOSSES: dict[str, Callable[[], dict[str, Term]]] = {
    "kd": lambda: {"kd": KD()},
    "ppd": lambda: {"ppd": PPD(detach_ratio=True)},
    "mse": lambda: {"mse": ProbabilityMSE()},
    "value": lambda: {"kd": KD(), "value": ValueDistillation()},
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("driver", [Driver(), Driver(1.0), Driver(0.5, random_steps=8)], ids=["own", "his", "mixed"])
def test_a_student_comes_to_agree_with_its_teacher_whoever_acts(loss: str, driver: Driver) -> None:
    teacher = policy()
    distillation = kd(PolicyJudge(teacher), **LOSSES[loss]())
    model = student(distillation, driver, learning_rate=1e-2, n_epochs=8)
    states = torch.as_tensor(collect(student(None, n_steps=64)).rollout_buffer.observations).flatten(0, 1)

    @torch.no_grad()
    def distances() -> tuple[float, float]:
        ours, theirs = PolicyLogits(model.policy)(states).softmax(1), PolicyLogits(teacher)(states).softmax(1)
        values = model.policy.predict_values(states) - teacher.predict_values(states)
        return (ours - theirs).abs().mean().item(), values.square().mean().item()

    before = distances()
    model.learn(10 * 64)
    after = distances()
    assert after[0] < 0.5 * before[0]
    assert after[1] < 0.9 * before[1] if loss == "value" else after[1] == before[1]


@pytest.mark.parametrize("shared", [True, False])
def test_a_judge_answers_as_its_policy(shared: bool) -> None:
    env = cartpole()
    network = ActorCriticPolicy(
        env.observation_space, env.action_space, lambda _: 1e-3, share_features_extractor=shared
    )
    observations = torch.randn(6, 4)
    logits, values = PolicyJudge(network).judge(observations)
    torch.testing.assert_close(values, network.predict_values(observations)[:, 0])
    torch.testing.assert_close(logits, PolicyLogits(network)(observations))
    assert torch.equal(logits, PolicyJudge(network)(observations))


# --- saving, refusing, the command line ------------------------------------------------------------------------------


def test_a_driver_and_the_teachers_values_are_saved(tmp_path: Path) -> None:
    distillation = kd(PolicyJudge(policy()), kd=KD(), value=ValueDistillation())
    model = student(distillation, Driver(0.5, random_steps=2)).learn(64)
    model.save(tmp_path / "model")
    loaded = DistilledPPO.load(tmp_path / "model", env=cartpole(), device="cpu")
    assert loaded.driver == model.driver and loaded._behaviour is None
    assert loaded.distillation is not None and distillation.teacher is not None
    assert loaded.distillation.teacher is not None
    observations = torch.randn(3, 4)
    for ours, theirs in zip(
        loaded.distillation.teacher.judge(observations), distillation.teacher.judge(observations), strict=True
    ):
        assert torch.equal(ours, theirs)
    loaded.learn(64)
    other = DistilledPPO.load(tmp_path / "model", env=cartpole(), device="cpu", driver=Driver())
    assert other.driver.is_student


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Driver(1.5), r"teacher_share=1.5 must be in \[0, 1\]"),
        (lambda: Driver(LinearSchedule(0.0, 2.0)), r"teacher_share=LinearSchedule\(.*\) must be in \[0, 1\]"),
        (lambda: Driver(until=-0.5), "until=-0.5 must be"),
        (lambda: Driver(random_steps=-1), "random_steps=-1 must not be negative"),
        (lambda: student(None, Driver(1.0)), "the teacher cannot act, for the method asks none; use driver=student"),
        (lambda: student(kd(), Driver(1.0), target_kl=0.01), "ppo.target_kl=0.01 stops what is off-policy"),
        (lambda: student(kd(value=ValueDistillation())), r"no critic .* make it of kdrl.networks.PolicyJudge"),
        (
            lambda: DistilledPPO("MlpPolicy", make_vec_env("Pendulum-v1", 1), driver=Driver(random_steps=1)),
            "needs a Discrete action space",
        ),
    ],
)
def test_what_cannot_be_is_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_iter_from_the_command_line(tmp_path: Path, call: Callable[..., Any], tiny: list[str]) -> None:
    quick = [*tiny, "evaluation.looks=[themed]", "evaluation.every=0"]
    assert call(train, *quick, f"run_dir={tmp_path / 'teacher'}").status == 0
    given = f"teacher={tmp_path / 'teacher'}"
    outcome = call(train, *quick, "experiment=iter", given, f"run_dir={tmp_path / 'student'}")
    assert (outcome.status, outcome.err) == (0, "")
    settings = read_settings(Run(tmp_path / "student").config_path, TrainSettings, "rl")
    assert settings.method["name"] == "iter"
    assert (settings.driver["teacher_share"], settings.driver["until"]) == (1.0, 0.5)
    refused = call(train, *quick, "driver=teacher", f"run_dir={tmp_path / 'none'}")
    assert refused.status == 2 and "the teacher cannot act" in refused.err
    for mistake, message in (
        ("driver.random_steps=few", "driver.random_steps='few'"),
        ("driver._target_=common.schedule.LinearSchedule", "driver"),
    ):
        refused = call(train, *quick, mistake, f"run_dir={tmp_path / 'none'}")
        assert refused.status == 2 and message in refused.err


def test_students_of_one_teacher_are_judged_as_one_policy(
    tmp_path: Path, call: Callable[..., Any], tiny: list[str]
) -> None:
    quick = [*tiny, "evaluation.looks=[themed]", "evaluation.every=0", "total_timesteps=128"]
    runs = [tmp_path / str(seed) for seed in range(2)]
    for seed, run in enumerate(runs):
        assert call(train, *quick, f"seed={seed}", f"run_dir={run}").status == 0
    both = f"run=[{runs[0]},{runs[1]}]"
    asked = ["episodes=4", "num_envs=8", "looks=[themed]", "device=cpu", f"out={tmp_path / 'out'}"]
    outcome = call(evaluate, both, *asked)
    assert (outcome.status, outcome.err) == (0, "")
    records = list(Run(tmp_path / "out").records())
    assert {(record.method, record.steps) for record in records} == {("erm-ensemble2", 256)}
    teacher = load_teacher([str(run) for run in runs], "leaper", device="cpu")
    settings = read_settings(Run(runs[0]).config_path, TrainSettings, "rl")
    played = play_part(teacher, settings.env, settings.env.parts(["themed"])[0], 4, 0)
    shown = next(record for record in records if record.seen and record.metric == "return")
    assert shown.value == played.returns.mean()
    assert call(evaluate, "run=[]", *asked).status == 2
