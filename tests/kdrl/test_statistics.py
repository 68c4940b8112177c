"""A teacher's observation statistics travel with it, whatever normalises the student's observations."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from torch import Tensor, nn

from common.distillation import Distillation
from common.errors import InputError
from common.teacher import Teacher
from common.terms import KD, TermOutput
from common.view import View
from kdrl import DistilledPPO
from kdrl.drivers import Driver
from kdrl.networks import PolicyJudge, PolicyLogits, Statistics

SMALL: dict[str, Any] = {"n_steps": 64, "batch_size": 64, "n_epochs": 1, "device": "cpu"}


def cartpole(seed: int = 0, **options: Any) -> VecEnv:
    venv = make_vec_env("CartPole-v1", 4, seed=seed)
    return VecNormalize(venv, clip_obs=3.0, **options) if options else venv


class Watching(KD):
    """Keeps what the teacher said, and which transitions that was."""

    def __init__(self) -> None:
        super().__init__(weight=1.0)
        self.said: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, view: View) -> TermOutput:
        assert view.teacher_logits is not None and view.index is not None and view.teacher is not None
        self.said.append((view.index, view.teacher_logits, view.teacher(view.inputs)))
        return super().forward(view)


@pytest.fixture(scope="module")
def taught() -> DistilledPPO:
    """A policy that has learnt under statistics of its own, which are far from those of a new environment."""
    model = DistilledPPO("MlpPolicy", cartpole(norm_reward=False), seed=0, **SMALL)
    return model.learn(1024)


def statistics(model: DistilledPPO) -> VecNormalize:
    found = model.get_vec_normalize_env()
    assert found is not None
    return found


@pytest.mark.parametrize("normalized", [True, False], ids=["under other statistics", "raw"])
def test_a_teacher_agrees_with_itself(taught: DistilledPPO, normalized: bool) -> None:
    env = cartpole(7, norm_reward=False) if normalized else cartpole(7)
    watching = Watching()
    teacher = Teacher([PolicyLogits(taught.policy, statistics(taught))])
    student = DistilledPPO(
        "MlpPolicy", env, distillation=Distillation({"kd": watching}, teacher=teacher), seed=1, **SMALL
    )
    seen: list[np.ndarray] = []
    inner = env.venv if isinstance(env, VecNormalize) else env
    step = inner.step_wait

    def spying() -> Any:
        result = step()
        seen.append(np.array(result[0]))
        return result

    inner.step_wait = spying  # type: ignore[method-assign]
    student.learn(2 * 256)
    rollouts = [np.stack(seen[64 * number : 64 * (number + 1)]) for number in range(2)]
    agreed = total = 0
    for number, raw in enumerate(rollouts):
        for index, said, _ in watching.said[4 * number : 4 * (number + 1)]:
            environment, position = index // 64, index % 64
            known = position > 0  # the first observation of a rollout is the last one of what was before
            frames = raw[(position[known] - 1).numpy(), environment[known].numpy()]
            expected = taught.policy.get_distribution(
                torch.as_tensor(statistics(taught).normalize_obs(frames), dtype=torch.float32)
            ).distribution.logits
            torch.testing.assert_close(
                said[known].log_softmax(1), expected.log_softmax(1).detach(), rtol=1e-4, atol=1e-4
            )
            agreed += int((said[known].argmax(1) == expected.argmax(1)).sum())
            total += int(known.sum())
    assert total == 2 * 4 * 63 and agreed >= 0.999 * total


def test_a_teacher_asked_about_other_inputs_is_asked_in_its_own_terms(taught: DistilledPPO) -> None:
    watching = Watching()
    teacher = Teacher([PolicyJudge(taught.policy, statistics(taught))])
    student = DistilledPPO(
        "MlpPolicy",
        cartpole(7, norm_reward=False),
        distillation=Distillation({"kd": watching}, teacher=teacher),
        seed=1,
        **SMALL,
    )
    student.learn(8 * 256)
    said, asked = (torch.cat([entry[part] for entry in watching.said[-4:]]) for part in (1, 2))
    # The statistics have moved a little during the rollout.
    assert float((said.argmax(1) == asked.argmax(1)).float().mean()) > 0.9


def test_statistics_are_saved_with_the_student(taught: DistilledPPO, tmp_path: Path) -> None:
    teacher = Teacher([PolicyLogits(taught.policy, statistics(taught))])
    env = cartpole(7, norm_reward=False)
    student = DistilledPPO("MlpPolicy", env, distillation=Distillation({"kd": KD()}, teacher=teacher), **SMALL)
    student.learn(256)
    student.save(tmp_path / "student.zip")
    loaded = DistilledPPO.load(tmp_path / "student.zip", env, device="cpu")
    observations = torch.randn(16, 4)
    assert loaded.distillation is not None and loaded.distillation.teacher is not None
    assert torch.equal(loaded.distillation.teacher(observations), teacher(observations))
    loaded.learn(256)


def test_statistics_are_those_of_vec_normalize(taught: DistilledPPO) -> None:
    normalizer = statistics(taught)
    frames = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32) * 2
    ours = Statistics(normalizer)
    torch.testing.assert_close(
        ours(torch.as_tensor(frames)), torch.as_tensor(normalizer.normalize_obs(frames), dtype=torch.float32)
    )
    inside = torch.as_tensor(frames) * 0.01
    torch.testing.assert_close(ours.undo(ours(inside)), inside, rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="does not normalise array observations"):
        Statistics(VecNormalize(make_vec_env("CartPole-v1", 1), norm_obs=False))


def test_a_teacher_that_does_not_say_what_it_knows_is_refused(taught: DistilledPPO) -> None:
    env = cartpole(norm_reward=False)

    def student(*networks: nn.Module, **options: Any) -> DistilledPPO:
        method = Distillation({"kd": KD()}, teacher=Teacher(networks))
        return DistilledPPO("MlpPolicy", env, distillation=method, **{**SMALL, **options})

    for network in (PolicyLogits(taught.policy), nn.Linear(4, 2)):
        with pytest.raises(InputError, match="are normalised by its VecNormalize; say how the teacher's were"):
            student(network)
    student(PolicyLogits(taught.policy, "student")).learn(256)
    student(PolicyLogits(taught.policy, "none"))
    own = PolicyLogits(taught.policy, statistics(taught))
    with pytest.raises(InputError, match="some of the teacher's networks know the student's statistics"):
        student(own, PolicyLogits(taught.policy, "student"))
    with pytest.raises(InputError, match="a teacher with statistics of its own cannot act; use driver=student"):
        student(own, driver=Driver(teacher_share=1.0))
