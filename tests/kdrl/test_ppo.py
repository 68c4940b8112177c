"""DistilledPPO against stock PPO, and what distillation adds to it.

``tests/golden/kdrl.json`` holds the first three losses of every method. A change that moves them on purpose
rewrites it: ``KDSHIFT_REGENERATE_GOLDEN=1 pytest -n 0 tests/kdrl/test_ppo.py -k golden``.
"""

import copy
import inspect
import json
import math
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn
from torch.nn import functional as F

import kdrl.buffers
import kdrl.ppo
import kdrl.teaching
from common.distillation import Distillation
from common.errors import InputError, NonFiniteLossError
from common.schedule import LinearSchedule
from common.teacher import Teacher
from common.terms import KD, KDDG, PPD, Need, SDDropout, Term, TermOutput
from common.view import View
from kdrl import DistilledPPO, ProcgenVecEnv
from kdrl.extractors import EXTRACTORS, policy_kwargs
from kdrl.networks import PolicyLogits

GOLDEN = Path(__file__).parents[1] / "golden" / "kdrl.json"
CARTPOLE = spaces.Box(-np.inf, np.inf, (4,), np.float32)
SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 1}

# The threshold of KDDG is low enough to filter policies that have learnt nothing yet.
METHODS: dict[str, Callable[[], dict[str, Term]]] = {
    "erm": dict,
    "kd": lambda: {"kd": KD(weight=0.5, temperature=2.0)},
    "kddg": lambda: {"kddg": KDDG(weight=0.5, temperature=2.0, threshold=0.4)},
    "kddg_teacher": lambda: {"kddg": KDDG(weight=0.5, temperature=2.0, threshold=0.4, reading="teacher")},
    "ppd": lambda: {"ppd": PPD(weight=0.5, temperature=2.0)},
    "sd_dropout": lambda: {"sd_dropout": SDDropout(weight=0.1)},
    "kddg_sdd": lambda: {
        "kddg": KDDG(weight=0.5, temperature=2.0, threshold=0.4),
        "sd_dropout": SDDropout(weight=0.1),
    },
}


def mlp(inputs: int = 4, outputs: int = 2, seed: int = 5) -> nn.Module:
    """A teacher of CartPole whose training mode would show: dropout and batch statistics."""
    torch.manual_seed(seed)
    layers = nn.Linear(inputs, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(), nn.Linear(16, outputs)
    nn.init.normal_(layers[-1].weight, std=2.0)
    return nn.Sequential(*layers)


def method(name: str, teacher: nn.Module | None = None) -> Distillation:
    return Distillation(METHODS[name](), teacher=Teacher([mlp() if teacher is None else teacher]), name=name)


def cartpole(num_envs: int = 4) -> VecEnv:
    return make_vec_env("CartPole-v1", num_envs)


def leaper(num_envs: int = 4) -> VecEnv:
    return ProcgenVecEnv("leaper", num_envs, threads=0)


def student(distillation: Distillation | None = None, env: VecEnv | None = None, **options: Any) -> DistilledPPO:
    return DistilledPPO(
        "MlpPolicy", cartpole() if env is None else env, distillation=distillation, **{**SMALL, **options}
    )


def frame_student(distillation: Distillation | None = None, **options: Any) -> DistilledPPO:
    network = policy_kwargs("small", 32)
    return DistilledPPO("CnnPolicy", leaper(), distillation=distillation, policy_kwargs=network, **{**SMALL, **options})


def frame_teacher(seed: int = 7) -> PolicyLogits:
    """An untrained policy with opinions."""
    policy = frame_student(seed=seed).policy
    nn.init.normal_(policy.action_net.weight, std=4.0)
    return PolicyLogits(policy)


def assert_same_state(first: nn.Module, second: nn.Module) -> None:
    ours, theirs = first.state_dict(), second.state_dict()
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def assert_same_training(ours: OnPolicyAlgorithm, theirs: OnPolicyAlgorithm) -> None:
    """Equal parameters, equal optimiser."""
    assert_same_state(ours.policy, theirs.policy)
    one, two = (model.policy.optimizer.state_dict() for model in (ours, theirs))
    assert one["param_groups"] == two["param_groups"]
    assert one["state"].keys() == two["state"].keys()
    for key, state in one["state"].items():
        assert state.keys() == two["state"][key].keys()
        for name, value in state.items():
            assert torch.equal(torch.as_tensor(value), torch.as_tensor(two["state"][key][name])), (key, name)


def logged(model: OnPolicyAlgorithm) -> dict[str, float]:
    """What the last update logged; the logger forgets the ones before."""
    return {name: value for name, value in model.logger.name_to_value.items() if not name.startswith(("rollout", "ti"))}


# --- plain training is stock PPO -------------------------------------------------------------------------------------

PLAIN: list[Callable[[], Distillation | None]] = [
    lambda: None,
    Distillation,
    lambda: Distillation(teacher=Teacher([mlp()]), name="erm"),  # a teacher that no term asks
]


@pytest.mark.parametrize("plain", PLAIN, ids=["none", "no-terms", "unasked-teacher"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip_range_vf": 0.1, "learning_rate": lambda progress: 1e-3 * progress, "clip_range": 0.1},
        {"target_kl": 0.01, "learning_rate": 3e-3, "n_epochs": 6},
        {"target_kl": 0.02, "learning_rate": 3e-3, "n_epochs": 6},
        {"normalize_advantage": False, "ent_coef": 0.02, "max_grad_norm": 0.1},
    ],
    ids=["default", "clip_range_vf", "target_kl", "larger_target_kl", "raw_advantage"],
)
def test_without_terms_it_is_stock_ppo_bit_for_bit(plain: Callable[[], Distillation | None], options: Any) -> None:
    stock = PPO("MlpPolicy", cartpole(), **{**SMALL, **options})
    before = copy.deepcopy(stock.policy)
    stock.learn(4 * 64)
    ours = student(plain(), **options).learn(4 * 64)
    assert_same_training(ours, stock)
    assert any(not torch.equal(now, then) for now, then in zip(stock.policy.parameters(), before.parameters()))  # noqa: B905
    assert ours._n_updates == stock._n_updates
    if "target_kl" in options:
        assert 4 < stock._n_updates < 4 * stock.n_epochs  # it did stop early
    # The logs have stock PPO's names and values, but for the precision of their means.
    assert logged(ours) == pytest.approx(logged(stock), rel=1e-4, abs=1e-6)
    assert "train/clip_fraction" in logged(ours)


def test_without_terms_frames_train_as_in_stock_ppo_bit_for_bit() -> None:
    stock = PPO("CnnPolicy", leaper(), policy_kwargs=policy_kwargs("small", 32), **SMALL).learn(3 * 64)
    assert_same_training(frame_student(Distillation()).learn(3 * 64), stock)


def test_frames_kept_as_bytes_train_as_plain_ones_do() -> None:
    """Not bit for bit: the division by 255 is another rounding. Plain SGD, as below."""
    fast = policy_kwargs("small", 32) | {"optimizer_class": torch.optim.SGD}
    plain = fast | {"normalize_images": True, "features_extractor_kwargs": {"features_dim": 32}}
    trained = []
    for network, buffer in ((fast, None), (plain, kdrl.buffers.IndexedRolloutBuffer)):
        terms = {"kd": KD(), "kddg": KDDG(reading="teacher"), "sd_dropout": SDDropout()}
        taught = Distillation(terms, teacher=Teacher([frame_teacher()]))
        options = {**SMALL, "rollout_buffer_class": buffer, "learning_rate": 0.05}
        model = DistilledPPO("CnnPolicy", leaper(), distillation=taught, policy_kwargs=network, **options)
        before = [parameter.detach().clone() for parameter in model.policy.parameters()]
        trained.append((before, model.learn(3 * 64)))
    assert isinstance(trained[0][1].rollout_buffer, kdrl.buffers.FrameBuffer)
    (first, ours), (second, theirs) = trained
    for start, same, mine, yours in zip(
        first, second, ours.policy.parameters(), theirs.policy.parameters(), strict=True
    ):
        assert torch.equal(start, same) and not torch.equal(start, mine)
        torch.testing.assert_close(mine, yours, rtol=1e-3, atol=1e-5)
    assert logged(ours) == pytest.approx(logged(theirs), rel=1e-2, abs=1e-4)


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("kdrl.minibatch IndexedRolloutBuffer", kdrl.buffers.IndexedRolloutBuffer),
        ("kdrl.networks SmallCNN", EXTRACTORS["small"]),
        ("kdrl.networks ImpalaCNN", EXTRACTORS["impala"]),
    ],
)
def test_archives_of_before_find_their_classes(place: str, kind: type) -> None:
    assert pickle.loads(f"c{place.replace(' ', chr(10))}\n.".encode()) is kind


@pytest.mark.parametrize("sde", [False, True])
def test_without_terms_continuous_actions_train_as_in_stock_ppo_bit_for_bit(sde: bool) -> None:
    # Squashed state-dependent noise has no entropy in closed form.
    options = SMALL | ({"use_sde": True, "policy_kwargs": {"squash_output": True}} if sde else {})
    stock = PPO("MlpPolicy", make_vec_env("Pendulum-v1", 2), **options).learn(3 * 32)
    ours = DistilledPPO("MlpPolicy", make_vec_env("Pendulum-v1", 2), distillation=None, **options).learn(3 * 32)
    assert_same_training(ours, stock)
    assert logged(ours) == pytest.approx(logged(stock), rel=1e-4, abs=1e-6)


def test_terms_of_zero_weight_train_like_stock_ppo() -> None:
    """Not bit for bit: surrogate and entropy bonus are summed per transition, so that filters can weigh them.

    Plain SGD, since Adam's first steps would blow rounding up to the size of the learning rate.
    """
    network = {"optimizer_class": torch.optim.SGD}
    options = {"policy_kwargs": network, "learning_rate": 0.05, "ent_coef": 0.01}
    stock = PPO("MlpPolicy", cartpole(), **{**SMALL, **options}).learn(4 * 64)
    terms = {"kd": KD(weight=0.0), "kddg": KDDG(weight=0.0, reading="teacher")}
    ours = student(Distillation(terms, teacher=Teacher([mlp()])), **options).learn(4 * 64)
    for mine, theirs in zip(ours.policy.parameters(), stock.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert logged(ours)["distillation/kd"] > 0 and logged(ours)["distillation/kd/weight"] == 0
    shared = {name: value for name, value in logged(ours).items() if name.startswith("train/")}
    assert shared == pytest.approx(logged(stock), rel=1e-3, abs=1e-5)


def test_sd_dropout_of_zero_weight_changes_random_numbers_only() -> None:
    # Its masks draw from the generator that also samples actions: the first rollout is still stock PPO's.
    options = {"policy_kwargs": {"optimizer_class": torch.optim.SGD}, "learning_rate": 0.05}
    stock = PPO("MlpPolicy", cartpole(), **{**SMALL, **options}).learn(64)
    ours = student(Distillation({"sd_dropout": SDDropout(weight=0.0)}), **options).learn(64)
    for mine, theirs in zip(ours.policy.parameters(), stock.policy.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)
    assert logged(ours)["distillation/sd_dropout"] > 0


# --- the host's signatures --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("__init__", {"distillation": None, "driver": None, "averaging": None}),
        ("load", {"distillation": None, "averaging": None}),
        ("learn", {}),
        ("collect_rollouts", {}),
    ],
)
def test_arguments_are_those_of_the_installed_ppo_and_ours_by_keyword(name: str, ours: dict[str, Any]) -> None:
    """The library's next version may have another: it is to be taken over then."""
    mine, theirs = (list(inspect.signature(getattr(kind, name)).parameters.values()) for kind in (DistilledPPO, PPO))
    assert {part.name: part.default for part in mine if part.kind is part.KEYWORD_ONLY} == ours
    shared = [(part.name, part.kind, part.default) for part in mine if part.kind is not part.KEYWORD_ONLY]
    assert shared == [(part.name, part.kind, part.default) for part in theirs]


def test_arguments_reach_the_host_under_their_own_names() -> None:
    options: dict[str, Any] = {
        "learning_rate": 1e-3,
        "n_steps": 16,
        "batch_size": 32,
        "n_epochs": 3,
        "gamma": 0.8,
        "gae_lambda": 0.7,
        "clip_range": 0.11,
        "clip_range_vf": 0.12,
        "normalize_advantage": False,
        "ent_coef": 0.13,
        "vf_coef": 0.14,
        "max_grad_norm": 0.15,
        "use_sde": True,
        "sde_sample_freq": 4,
        "rollout_buffer_class": kdrl.buffers.IndexedRolloutBuffer,
        "rollout_buffer_kwargs": {},
        "target_kl": 0.16,
        "stats_window_size": 17,
        "tensorboard_log": "somewhere",
        "policy_kwargs": {"net_arch": [8]},
        "verbose": 1,
        "seed": 18,
        "device": "cpu",
        "_init_setup_model": False,
    }
    assert {"policy", "env", *options} == inspect.signature(PPO).parameters.keys()
    models = [kind("MlpPolicy", make_vec_env("Pendulum-v1", 2), **options) for kind in (PPO, DistilledPPO)]
    states = [{name: value for name, value in vars(model).items() if name not in ("env", "policy")} for model in models]
    for name, value in states[0].items():
        assert name.startswith("_") or isinstance(value, spaces.Space) or states[1][name] == value, name


# --- the clean policy, and the view ----------------------------------------------------------------------------------


def test_dropout_never_enters_the_ratio() -> None:
    model = student(Distillation({"sd_dropout": SDDropout(weight=1.0, rate=0.5)}), n_epochs=1, batch_size=64)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(300)  # opinions that dropout would change
    before = copy.deepcopy(model.policy)
    model.learn(64)
    assert logged(model)["train/clip_fraction"] == 0
    assert logged(model)["train/approx_kl"] == pytest.approx(0, abs=1e-6)
    assert logged(model)["distillation/sd_dropout"] > 0.1

    # What the first minibatch would show with dropout in the ratio.
    buffer = model.rollout_buffer
    observations, actions = torch.as_tensor(buffer.observations), torch.as_tensor(buffer.actions).flatten()
    torch.manual_seed(0)
    with torch.no_grad():
        latent = before.mlp_extractor.forward_actor(before.extract_features(observations))
        log_prob = before.action_net(F.dropout(latent)).log_softmax(1).gather(1, actions.long()[:, None])[:, 0]
    ratio = (log_prob - torch.as_tensor(buffer.log_probs).flatten()).exp()
    assert ((ratio - 1).abs() > 0.2).float().mean() > 0.2


class Probe(KD):
    """KD that checks its view against the rollout."""

    def __init__(self) -> None:
        super().__init__()
        self.indices: list[Tensor] = []

    def watch(self, model: DistilledPPO) -> None:
        self.__dict__["model"] = model  # not a submodule

    def forward(self, view: View) -> TermOutput:
        model: DistilledPPO = self.__dict__["model"]
        assert model.distillation is not None and model.distillation.teacher is not None
        assert view.index is not None and view.teacher_logits is not None
        assert not view.teacher_logits.requires_grad and view.logits.requires_grad
        # The buffer is flat by now, environment-major.
        stored = torch.as_tensor(model.rollout_buffer.observations)[view.index]
        assert torch.equal(view.inputs, stored)
        torch.testing.assert_close(view.teacher_logits, model.distillation.teacher(stored))
        assert view.teacher is not None
        torch.testing.assert_close(view.teacher(view.inputs), view.teacher_logits)
        others = torch.as_tensor(model.rollout_buffer.observations)[:5]
        answer = view.teacher(others)
        assert torch.equal(answer, model.distillation.teacher(others)) and not answer.requires_grad
        buffer = model.rollout_buffer
        taken, old = (torch.as_tensor(part)[view.index] for part in (buffer.actions, buffer.log_probs))
        log_prob = view.logits.log_softmax(1).gather(1, taken.long())[:, 0]
        assert view.ratio is not None and view.ratio.requires_grad
        torch.testing.assert_close(view.ratio, (log_prob - old.flatten()).exp())
        assert view.progress == model.progress and view.log
        torch.testing.assert_close(view.logits, view.forward(view.inputs))
        assert torch.equal(view.logits, view.head(view.features))
        assert view.targets is None and view.valid is None
        self.indices.append(view.index)
        return super().forward(view)


@pytest.mark.parametrize("frames", [False, True])
def test_every_term_sees_its_own_transitions(frames: bool) -> None:
    probe = Probe()
    teacher = frame_teacher() if frames else mlp()
    distillation = Distillation({"probe": probe}, teacher=Teacher([teacher]))
    model = frame_student(distillation) if frames else student(distillation)
    probe.watch(model)
    model.learn(2 * 64)
    assert len(probe.indices) == 2 * 2 * 2  # rollouts, epochs, minibatches
    for epoch in range(4):
        assert sorted(torch.cat(probe.indices[2 * epoch : 2 * epoch + 2]).tolist()) == list(range(64))
    answers = model._teacher_answers(distillation)
    assert answers is not None and (answers.logits.std(dim=0) > 1e-3).all()  # so that a mix-up would show


def test_separate_extractors_show_the_actors_features() -> None:
    class Separate(ActorCriticPolicy):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs, share_features_extractor=False)

    probe = Probe()
    distillation = Distillation({"probe": probe}, teacher=Teacher([mlp()]))
    model = DistilledPPO(Separate, cartpole(), distillation=distillation, **SMALL)
    probe.watch(model)
    model.learn(64)
    assert len(probe.indices) == 4


def test_a_rollout_may_be_trained_on_again() -> None:
    """The buffer is flat the second time; the teacher's logits must follow."""
    probe = Probe()
    model = student(Distillation({"probe": probe}, teacher=Teacher([mlp()])))
    probe.watch(model)
    model.learn(64)
    model.train()
    assert len(probe.indices) == 2 * 4


def test_schedules_follow_the_progress_of_learning() -> None:
    weights = []

    class Shows(SDDropout):
        def forward(self, view: View) -> TermOutput:
            weights.append(view.progress)
            return super().forward(view)

    model = student(Distillation({"shows": Shows(LinearSchedule(0.0, 0.1))}), n_epochs=1, batch_size=64)
    model.learn(4 * 64)
    assert weights == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert logged(model)["distillation/shows/weight"] == pytest.approx(0.1)


def test_kddg_scales_policy_loss_bonus_and_terms_of_each_transition() -> None:
    n, temperature, weight, ent_coef, vf_coef = 0.5, 2.0, 0.7, 0.05, 0.3
    distillation = Distillation({"kddg": KDDG(weight, temperature, n)}, teacher=Teacher([mlp()]))
    model = student(distillation, n_epochs=1, batch_size=64, ent_coef=ent_coef, vf_coef=vf_coef)
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)
    before = copy.deepcopy(model.policy)
    model.learn(64)

    buffer = model.rollout_buffer
    teacher = distillation.teacher
    assert teacher is not None
    observations = torch.as_tensor(buffer.observations)
    with torch.no_grad():
        z, z_teacher = PolicyLogits(before)(observations).double(), teacher(observations).double()
        values = before.predict_values(observations).double().flatten()
    advantages, returns = (torch.as_tensor(part).flatten().double() for part in (buffer.advantages, buffer.returns))
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    entropy = -(z.softmax(1) * z.log_softmax(1)).sum(1)
    q = (z_teacher / temperature).softmax(1)
    divergence = temperature**2 * (q * (q.log() - (z / temperature).log_softmax(1))).sum(1)
    p = z.softmax(1).gather(1, z_teacher.argmax(1, keepdim=True))[:, 0]
    w = torch.where(p <= n, 1.0, ((n + 1 - 2 * p) / (1 - n)).clamp(min=0) ** 2)
    assert 0.1 < w.mean() < 0.9
    # The ratio is one: the surrogate is the advantage.
    expected = (w * (-advantages - ent_coef * entropy + weight * divergence)).mean()
    expected += vf_coef * (returns - values).square().mean()
    assert logged(model)["train/loss"] == pytest.approx(expected.item(), rel=1e-4)
    assert logged(model)["distillation/kddg/fraction_filtered"] == pytest.approx((w < 1).double().mean().item())


# --- the teacher -----------------------------------------------------------------------------------------------------


class Counting(nn.Module):
    """A network that remembers how many inputs each call had."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.sizes: list[int] = []

    def forward(self, inputs: Tensor) -> Tensor:
        assert not torch.is_grad_enabled()
        self.sizes.append(len(inputs))
        logits: Tensor = self.network(inputs)
        return logits


def test_the_teacher_answers_once_a_rollout(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(model: DistilledPPO) -> list[int]:
        assert model.distillation is not None and model.distillation.teacher is not None
        (network,) = model.distillation.teacher.networks
        assert isinstance(network, Counting)
        return network.sizes

    model = student(method("kddg_sdd", Counting(mlp())), n_epochs=3)
    assert asked(model) == [1]  # the check of its shape
    model.learn(3 * 64)
    assert asked(model) == [1, 64, 64, 64]

    monkeypatch.setattr(kdrl.teaching, "TEACHER_CHUNK", 24)
    other = student(method("kddg_sdd", Counting(mlp())), n_epochs=3).learn(3 * 64)
    assert asked(other) == [1, *[24, 24, 16] * 3]
    for ours, theirs in zip(other.policy.parameters(), model.policy.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_the_teacher_is_left_as_it_was() -> None:
    distillation = method("kddg_sdd")
    teacher = distillation.teacher
    assert teacher is not None
    before = copy.deepcopy(teacher)
    model = student(distillation).learn(3 * 64)
    assert_same_state(teacher, before)  # with BatchNorm's running statistics
    assert not any(part.training for part in teacher.modules())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())
    optimized = {id(parameter) for group in model.policy.optimizer.param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in model.policy.parameters()}


def test_an_ensemble_teaches_its_mean_probability() -> None:
    one, two = mlp(seed=5).eval(), mlp(seed=6).eval()
    distillation = Distillation({"kd": KD()}, teacher=Teacher([one, two]))
    model = student(distillation, n_epochs=1).learn(64)
    with torch.no_grad():
        observations = torch.as_tensor(model.rollout_buffer.observations)
        expected = (one(observations).softmax(1) + two(observations).softmax(1)) / 2
    assert model.distillation is not None
    answers = model._teacher_answers(model.distillation)
    assert answers is not None
    torch.testing.assert_close(answers.logits.softmax(1), expected)


@pytest.mark.parametrize("name", [name for name in METHODS if "kd" in name])
def test_a_student_comes_to_agree_with_its_teacher(name: str) -> None:
    """The task is all but silent; rewards would teach something else."""
    distillation = method(name)
    distillation.task_weight = 1e-6
    for term in distillation.terms.values():
        term.weight *= 2
        if isinstance(term, KDDG):
            term.threshold = 0.9
    model = student(distillation, learning_rate=1e-2, vf_coef=0.0)
    key = "distillation/kd" if name == "kd" else "distillation/kddg"
    model.learn(64)
    first = logged(model)
    model.learn(12 * 64, reset_num_timesteps=False)
    last = logged(model)
    assert first[f"{key}/teacher_agreement"] < 0.8
    assert last[f"{key}/teacher_agreement"] > max(0.85, first[f"{key}/teacher_agreement"] + 0.15)
    assert last[key] < 0.6 * first[key]


def test_a_student_of_frames_comes_to_agree_with_its_teacher() -> None:
    distillation = Distillation({"kd": KD()}, task_weight=1e-6, teacher=Teacher([frame_teacher()]))
    model = frame_student(distillation, learning_rate=3e-3, vf_coef=0.0, n_epochs=4)
    model.learn(64)
    first = logged(model)
    model.learn(5 * 64, reset_num_timesteps=False)
    last = logged(model)
    assert last["distillation/kd/teacher_agreement"] > first["distillation/kd/teacher_agreement"] + 0.15
    assert last["distillation/kd"] < 0.3 * first["distillation/kd"]


@pytest.mark.parametrize("name", METHODS)
def test_another_seed_gives_another_policy(name: str) -> None:
    one, two = (student(method(name), seed=seed).learn(2 * 64) for seed in (1, 2))
    assert logged(one) != logged(two)


# --- saving and loading ----------------------------------------------------------------------------------------------


class Scaled(KD):
    """KD with a learnt factor: a term that has a parameter and a state."""

    def __init__(self, start: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(start))
        self.register_buffer("calls", torch.tensor(0))
        self.calls: Tensor

    def forward(self, view: View) -> TermOutput:
        self.calls += 1
        output = super().forward(view)
        output.loss = output.loss * self.scale
        return output


def assert_same_method(ours: Distillation | None, theirs: Distillation | None) -> None:
    assert ours is not None and theirs is not None and ours is not theirs
    assert ours.name == theirs.name and ours.task_weight == theirs.task_weight
    assert_same_state(ours, theirs)
    for key, term in ours.terms.items():
        other = theirs.terms[key]
        assert type(term) is type(other)
        for name in ("weight", "temperature", "threshold", "reading", "rate", "mask"):
            assert getattr(term, name, None) == getattr(other, name, None)


def test_a_saved_model_goes_on_distilling(tmp_path: Path) -> None:
    distillation = method("kddg_sdd")
    distillation.terms["scaled"] = Scaled(0.5)
    distillation.task_weight = 0.25
    model = student(distillation).learn(2 * 64)
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        # The teacher's weights are tensors of their own, not part of what is pickled.
        assert "distillation.pth" in archive.namelist()
    loaded = DistilledPPO.load(tmp_path / "model", env=cartpole(), device="cpu")
    assert_same_method(loaded.distillation, distillation)
    assert_same_training(loaded, model)
    assert loaded.distillation is not None and loaded.distillation.teacher is not None
    assert not any(part.training for part in loaded.distillation.teacher.modules())
    assert not any(parameter.requires_grad for parameter in loaded.distillation.teacher.parameters())
    scaled = loaded.distillation.terms["scaled"]
    assert scaled.scale.item() != 0.5 and scaled.calls == 2 * 2 * 2
    assert scaled.scale in loaded.policy.optimizer.state

    # Both go on from the same rollouts, once their environments and generators agree.
    for part in (model, loaded):
        part.set_env(cartpole())
        part.set_random_seed(11)
        part.learn(64, reset_num_timesteps=False)
    assert_same_training(loaded, model)
    assert logged(loaded) == logged(model)
    assert logged(loaded)["distillation/kddg"] > 0
    assert scaled.calls == 3 * 2 * 2


def test_a_loaded_student_comes_closer_to_its_teacher(tmp_path: Path) -> None:
    distillation = Distillation({"kd": KD()}, task_weight=1e-6, teacher=Teacher([mlp()]))
    model = student(distillation, learning_rate=3e-3, vf_coef=0.0).learn(64)
    model.save(tmp_path / "model")
    loaded = DistilledPPO.load(tmp_path / "model", env=cartpole(), device="cpu")
    loaded.learn(6 * 64, reset_num_timesteps=False)
    assert logged(loaded)["distillation/kd"] < 0.8 * logged(model)["distillation/kd"]


def test_a_teacher_of_frames_is_saved_with_its_student(tmp_path: Path) -> None:
    model = frame_student(method("kd", frame_teacher())).learn(64)
    model.save(tmp_path / "model")
    loaded = DistilledPPO.load(tmp_path / "model", env=leaper(), device="cpu")
    assert_same_method(loaded.distillation, model.distillation)
    frames = torch.as_tensor(model.rollout_buffer.observations)
    assert loaded.distillation is not None and model.distillation is not None
    assert loaded.distillation.teacher is not None and model.distillation.teacher is not None
    assert torch.equal(loaded.distillation.teacher(frames), model.distillation.teacher(frames))
    loaded.learn(64)
    assert logged(loaded)["distillation/kd"] > 0


class Shifted(nn.Module):
    """A teacher whose answer depends on a buffer."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.network = mlp()
        self.register_buffer("shift", torch.tensor([3.0, -5.0]), persistent=persistent)
        self.shift: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.network(inputs) + self.shift
        return logits


class Tempered(KD):
    """A term that depends on one."""

    def __init__(self, persistent: bool) -> None:
        super().__init__()
        self.register_buffer("factors", torch.linspace(2.0, 3.0, 64), persistent=persistent)
        self.factors: Tensor


@pytest.mark.parametrize("persistent", [False, True])
def test_buffers_come_back_whether_their_authors_made_them_persistent_or_not(tmp_path: Path, persistent: bool) -> None:
    distillation = Distillation({"tempered": Tempered(persistent)}, teacher=Teacher([Shifted(persistent)]))
    model = student(distillation).learn(64)
    model.save(tmp_path / "first")
    assert distillation.teacher is not None
    observations = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    expected = distillation.teacher(observations)
    # The second time from an archive of what was itself loaded.
    for name, following in (("first", "second"), ("second", "third")):
        loaded = DistilledPPO.load(tmp_path / name, env=cartpole(), device="cpu")
        assert loaded.distillation is not None and loaded.distillation.teacher is not None
        assert torch.equal(loaded.distillation.teacher(observations), expected)
        assert torch.equal(loaded.distillation.terms["tempered"].factors, torch.linspace(2.0, 3.0, 64))
        loaded.save(tmp_path / following)
    loaded.learn(64)
    assert logged(loaded)["distillation/tempered"] > 0


@pytest.mark.parametrize("plain", [lambda: None, Distillation], ids=["none", "no-terms"])
def test_a_plain_archive_goes_on_as_stock_ppo(tmp_path: Path, plain: Callable[[], Distillation | None]) -> None:
    student(plain()).learn(64).save(tmp_path / "ours")
    PPO("MlpPolicy", cartpole(), **SMALL).learn(64).save(tmp_path / "stock")
    stock = PPO.load(tmp_path / "stock", env=cartpole(), device="cpu").learn(64)
    for name in ("ours", "stock"):
        model = DistilledPPO.load(tmp_path / name, env=cartpole(), device="cpu").learn(64)
        assert model.distillation is None or model.distillation.is_plain
        assert_same_training(model, stock)


@pytest.mark.parametrize("archive", ["stock", "erm", "kd"])
def test_an_archive_goes_on_with_another_method(tmp_path: Path, archive: str) -> None:
    former = student(Distillation({"scaled": Scaled()}, teacher=Teacher([mlp(seed=8)]))) if archive == "kd" else None
    if archive == "stock":
        former = PPO("MlpPolicy", cartpole(), **SMALL)
    former = (student(Distillation()) if former is None else former).learn(64)
    former.save(tmp_path / "model")
    given, expected = method("kddg_sdd"), method("kddg_sdd")
    loaded = DistilledPPO.load(tmp_path / "model", env=cartpole(), device="cpu", distillation=given)
    assert loaded.distillation is given
    assert_same_method(given, expected)  # the archive's teacher has not slipped in
    assert_same_state(loaded.policy, former.policy)
    loaded.learn(64)
    assert {"distillation/kddg", "distillation/sd_dropout"} <= set(logged(loaded))
    assert "distillation/scaled" not in logged(loaded)
    loaded.save(tmp_path / "again")
    assert_same_method(DistilledPPO.load(tmp_path / "again", device="cpu").distillation, given)


def test_a_method_can_be_exchanged_in_mid_training(tmp_path: Path) -> None:
    model = student(Distillation({"scaled": Scaled()}, teacher=Teacher([mlp()])), n_epochs=1, batch_size=64).learn(64)
    assert len(model.policy.optimizer.param_groups) == 2
    model.set_distillation(Distillation({"scaled": Scaled(3.0)}, teacher=Teacher([mlp(seed=6)])))
    model.learn(64)
    assert logged(model)["distillation/scaled"] > 0
    model.set_distillation(None)
    assert len(model.policy.optimizer.param_groups) == 1
    model.learn(64)
    assert not [name for name in logged(model) if name.startswith("distillation")]
    model.save(tmp_path / "plain")
    assert DistilledPPO.load(tmp_path / "plain", device="cpu").distillation is None


def test_a_method_that_is_refused_leaves_the_former_one() -> None:
    former = method("kd")
    model = student(former)
    with pytest.raises(InputError, match=r"have shape \(3,\), the student has 2 actions"):
        model.set_distillation(method("kddg", mlp(outputs=3)))
    assert model.distillation is former
    model.learn(64)
    assert "distillation/kd" in logged(model)


def test_parameters_travel_with_the_teacher() -> None:
    model = student(method("kd")).learn(64)
    other = student(method("kd", mlp(seed=9)), seed=3)
    other.set_parameters(model.get_parameters())
    assert_same_method(other.distillation, model.distillation)
    assert_same_training(other, model)


# --- what is refused -------------------------------------------------------------------------------------------------


class NeedsLabels(Term):
    """A term that PPO cannot serve."""

    needs: ClassVar[frozenset[Need]] = frozenset({"labels"})


class NeedsImage(Term):
    """Another one."""

    needs: ClassVar[frozenset[Need]] = frozenset({"image", "features"})


def kd(*networks: nn.Module) -> Distillation:
    return Distillation({"kd": KD()}, teacher=Teacher(networks), name="mine")


def wide_teacher() -> PolicyLogits:
    return PolicyLogits(ActorCriticPolicy(spaces.Box(-1, 1, (6,)), spaces.Discrete(2), lambda _: 0.0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: kd(mlp(outputs=3)), r"the teacher's logits have shape \(3,\), the student has 2 actions; give a"),
        (lambda: kd(nn.Flatten(0)), r"the teacher's logits have shape \(\), the student has 2 actions"),
        (lambda: kd(mlp(inputs=6)), r"the teacher cannot take the student's observations, Box.*of the same obs"),
        (lambda: kd(wide_teacher()), r"the teacher sees Box\(.*\(6,\).*the student Box.*of the same observations"),
        (lambda: kd(frame_teacher()), r"the teacher sees Box\(.*\(3, 64, 64\).*of the same observations"),
        (lambda: Distillation({"a": NeedsLabels()}, name="mine"), "method=mine: a needs labels, which PPO does not"),
        (lambda: Distillation({"b": NeedsImage()}, name="mine"), "method=mine: b needs image, which PPO does not"),
    ],
)
def test_a_method_that_cannot_be_served_is_refused(make: Callable[[], Distillation], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        student(make())
    assert "\n" not in str(caught.value)


def test_other_dtypes_are_refused() -> None:
    class Doubles(gymnasium.ObservationWrapper):
        def __init__(self, env: gymnasium.Env) -> None:
            super().__init__(env)
            self.observation_space = spaces.Box(-1, 1, (4,), np.float64)

        def observation(self, observation: Any) -> Any:
            return observation.astype(np.float64)

    teacher = PolicyLogits(student().policy)
    with pytest.raises(InputError, match=r"float32.*float64.*same observations"):
        student(kd(teacher), make_vec_env(lambda: Doubles(gymnasium.make("CartPole-v1")), 2))


def test_continuous_actions_are_refused_with_terms() -> None:
    env = make_vec_env("Pendulum-v1", 2)
    with pytest.raises(InputError, match=r"distillation needs a Discrete action space, got Box\(-2.0, 2.0"):
        student(Distillation({"sd_dropout": SDDropout()}), env)


class OwnBuffer(RolloutBuffer):
    """A rollout buffer of the user's."""


class OwnIndexedBuffer(kdrl.buffers.IndexedRolloutBuffer):
    """One that can carry what distillation needs, and changes its minibatches."""

    def _get_samples(self, batch_inds: Any, env: Any = None) -> Any:
        samples = super()._get_samples(batch_inds, env)
        return samples._replace(advantages=samples.advantages.clamp(max=1.0))


def test_a_rollout_buffer_must_tell_its_indices() -> None:
    with pytest.raises(InputError, match=r"rollout_buffer_class=OwnBuffer .* derive it from kdrl.buffers.Indexed"):
        student(method("kd"), rollout_buffer_class=OwnBuffer)
    plain = student(Distillation(), rollout_buffer_class=OwnBuffer)
    assert type(plain.rollout_buffer) is OwnBuffer
    with pytest.raises(InputError, match="rollout_buffer_class=OwnBuffer"):
        plain.set_distillation(method("kd"))
    model = student(method("kd"), rollout_buffer_class=OwnIndexedBuffer).learn(64)
    assert type(model.rollout_buffer) is OwnIndexedBuffer
    assert logged(model)["distillation/kd"] > 0
    assert logged(student(method("kd"), rollout_buffer_class=RolloutBuffer).learn(64))["distillation/kd"] > 0


def test_a_student_is_taught_by_itself_as_it_was() -> None:
    model = student().learn(64)
    model.set_distillation(kd(PolicyLogits(model.policy)))
    before = copy.deepcopy(model.policy)
    assert model.policy.training == before.training and all(one.requires_grad for one in model.policy.parameters())
    model.learn(2 * 64)
    assert 0 < logged(model)["distillation/kd"] < 0.05
    assert model.distillation is not None and model.distillation.teacher is not None
    observations = torch.randn(9, 4)
    was = PolicyLogits(before)(observations)
    assert torch.equal(model.distillation.teacher(observations), was)
    assert not torch.equal(PolicyLogits(model.policy)(observations), was)


def test_a_teacher_that_shares_weights_is_refused() -> None:
    model = student()
    method = kd(mlp())
    assert method.teacher is not None
    method.teacher.networks[0] = PolicyLogits(model.policy)
    with pytest.raises(InputError, match="the teacher shares weights with the student; give it a copy"):
        model.set_distillation(method)


# --- losses that are not numbers -------------------------------------------------------------------------------------


class Spoils(Term):
    """From its fourth call on, a loss or a gradient that is not a number; keeps the parameters it saw last."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.calls = 0
        self.seen: list[Tensor] = []

    def watch(self, policy: nn.Module) -> None:
        self.__dict__["policy"] = policy  # not a submodule

    def forward(self, view: View) -> TermOutput:
        self.calls += 1
        self.seen = [parameter.detach().clone() for parameter in self.__dict__["policy"].parameters()]
        nothing = 0.0 * view.logits[:, 0]
        if self.calls < 4:
            return TermOutput(nothing)
        # The root's slope at zero is infinite, and infinity times zero is no number.
        return TermOutput(nothing.sqrt() if self.kind == "gradient" else nothing + float(self.kind))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("nan", "the loss is nan at step 64"),
        ("inf", "the loss is inf at step 64"),
        ("gradient", "the gradient's norm is nan at step 64"),
    ],
)
def test_a_step_that_is_not_a_number_is_not_taken(kind: str, message: str) -> None:
    term = Spoils(kind)
    model = student(Distillation({"spoils": term}))
    term.watch(model.policy)
    before = copy.deepcopy(model.policy)
    with pytest.raises(NonFiniteLossError) as caught:
        model.learn(5 * 64)
    assert str(caught.value) == message
    assert term.calls == 4
    for now, then in zip(model.policy.parameters(), term.seen, strict=True):
        assert torch.equal(now, then) and now.isfinite().all()
    assert any(not torch.equal(now, then) for now, then in zip(term.seen, before.parameters(), strict=True))


@pytest.mark.parametrize("name", ["erm", "kddg_sdd"])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_step_that_is_far_too_large_stops_training(name: str, minibatches: int) -> None:
    # With one minibatch the next rollout meets the spoilt policy, with two the next minibatch.
    distillation = method(name, frame_teacher())
    model = frame_student(distillation, learning_rate=1e12, n_epochs=1, batch_size=64 // minibatches)
    with pytest.raises(NonFiniteLossError) as caught:
        model.learn(5 * 64)
    assert str(caught.value) == "the policy's logits are not finite at step 64"


def test_other_value_errors_of_learning_are_not_renamed() -> None:
    class Raises(Term):
        def forward(self, view: View) -> TermOutput:
            raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        student(Distillation({"raises": Raises()})).learn(64)


# --- golden losses ---------------------------------------------------------------------------------------------------


class Recorded(DistilledPPO):
    """Keeps the loss of every step."""

    def _step(self, loss: Tensor) -> None:
        self.__dict__.setdefault("losses", []).append(loss.item())
        super()._step(loss)


def first_losses(name: str) -> list[float]:
    """Plain SGD: Adam's first steps would blow rounding up to the size of the learning rate."""
    network = policy_kwargs("small", 32) | {"optimizer_class": torch.optim.SGD}
    options = {"ent_coef": 0.01, "vf_coef": 0.25, "learning_rate": 0.05, "policy_kwargs": network}
    distillation = method(name, frame_teacher())
    for term in distillation.terms.values():
        if isinstance(term, KDDG):
            term.threshold = 0.08  # low enough for fifteen actions
    model = Recorded("CnnPolicy", leaper(), distillation=distillation, **(SMALL | options))
    with torch.no_grad():
        model.policy.action_net.weight.mul_(100)  # opinions, so that filters and dropout have something to do
    model.learn(64)
    losses: list[float] = model.__dict__["losses"]
    assert len(losses) == 4
    weight = logged(model).get("distillation/kddg/filter_weight")
    assert weight is None or 0.1 < weight < 0.9
    return losses[:3]


@pytest.mark.parametrize("name", METHODS)
def test_the_first_losses_are_the_golden_ones(name: str) -> None:
    losses = first_losses(name)
    assert all(math.isfinite(loss) for loss in losses)
    if os.environ.get("KDSHIFT_REGENERATE_GOLDEN") == "1":
        golden = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        GOLDEN.write_text(json.dumps(golden | {name: losses}, indent=2) + "\n")
        return
    golden = json.loads(GOLDEN.read_text())
    assert set(golden) == set(METHODS)
    assert losses == pytest.approx(golden[name], rel=1e-4)


def test_a_distillation_without_terms_takes_whatever_ppo_takes() -> None:
    options: dict[str, Any] = {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "seed": 0, "device": "cpu"}
    stock = PPO("MlpPolicy", make_vec_env("Pendulum-v1", 2), **options).learn(64)
    ours = DistilledPPO("MlpPolicy", make_vec_env("Pendulum-v1", 2), distillation=Distillation(), **options).learn(64)
    for theirs, mine in zip(stock.policy.parameters(), ours.policy.parameters(), strict=True):
        assert torch.equal(theirs, mine)
