"""What a method does to a policy under shifted physics: a control task on which ten seeds take minutes.

``python benchmarks/effect/control.py`` trains, for each seed and row, a student on CartPole-v1 whose pole is of medium
length, and judges it there and where the pole is long, short, or everything heavy. The teacher is one of three trained
ten times as long, the best of them *on the physics it was trained on*. ``results/control.jsonl`` has a line a student,
and those that are there are not trained again; ``--summary`` writes ``control.md``.

Settings are chosen by what they gain on the seen physics (``seen``); the unseen ones are reported and choose nothing.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.lines import append, read
from common.averaging import WAKD
from common.distillation import Distillation
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout, Term
from kdrl import DistilledPPO
from kdrl.networks import PolicyLogits

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results" / "control.jsonl"
TEACHERS = FOLDER / "results" / "control_teachers.pt"
NUM_ENVS, EPISODES, TEACHER_STEPS, STUDENT_STEPS = 8, 40, 150_000, 15_000
# Half the pole's length in metres and gravity, uniform in these; 0.5 and 9.8 are the host's.
PHYSICS = {
    "seen": ((0.4, 0.6), (9.8, 9.8)),
    "long": ((2.0, 3.0), (9.8, 9.8)),
    "short": ((0.1, 0.15), (9.8, 9.8)),
    "heavy": ((0.4, 0.6), (20.0, 30.0)),
}
UNSEEN = ("long", "short", "heavy")


def kddg(reading: Any, threshold: float) -> dict[str, Term]:
    return {"kddg": KDDG(threshold=threshold, reading=reading)}


# Both controls, then each reading of the filter at thresholds that act, then what composes with it.
ROWS: dict[str, Callable[[], dict[str, Term]]] = {
    "ppo": dict,
    "kd": lambda: {"kd": KD()},
    "kddg student .95": lambda: kddg("student", 0.95),
    "kddg student .7": lambda: kddg("student", 0.7),
    "kddg teacher .95": lambda: kddg("teacher", 0.95),
    "kddg teacher .7": lambda: kddg("teacher", 0.7),
    "kddg overlap .95": lambda: kddg("overlap", 0.95),
    "kddg overlap .9": lambda: kddg("overlap", 0.9),
    "kddg overlap .7": lambda: kddg("overlap", 0.7),
    "sd_dropout": lambda: {"sd_dropout": SDDropout(weight=0.03, rate=0.25, temperature=1.0)},
}


class Shifted(gym.Wrapper[Any, Any, Any, Any]):
    """CartPole whose physics are drawn anew for every episode."""

    def __init__(self, env: gym.Env[Any, Any], physics: str) -> None:
        super().__init__(env)
        self.ranges = PHYSICS[physics]

    def reset(self, **options: Any) -> Any:
        found = super().reset(**options)
        cart: Any = self.unwrapped
        cart.length, cart.gravity = (float(cart.np_random.uniform(*limits)) for limits in self.ranges)
        cart.polemass_length = cart.masspole * cart.length
        return found


def environments(physics: str, seed: int) -> VecEnv:
    return make_vec_env("CartPole-v1", NUM_ENVS, seed=seed, wrapper_class=Shifted, wrapper_kwargs={"physics": physics})


def learn(method: Distillation | None, steps: int, seed: int) -> DistilledPPO:
    model = DistilledPPO(
        "MlpPolicy",
        environments("seen", 1000 * seed),
        n_steps=128,
        batch_size=256,
        n_epochs=10,
        learning_rate=3e-4,
        seed=seed,
        device="cpu",
        distillation=method,
        averaging=WAKD(),
    )
    return model.learn(steps)


@torch.no_grad()
def returns(policy: nn.Module, physics: str, seed: int = 77) -> float:
    """Mean return of whole episodes, actions sampled, as many from each environment."""
    env, generator = environments(physics, 10_000 + seed), torch.Generator().manual_seed(seed)
    quota, total, found = np.full(NUM_ENVS, EPISODES // NUM_ENVS), np.zeros(NUM_ENVS), []
    observations: Any = env.reset()
    while quota.any():
        actions = torch.multinomial(policy(torch.as_tensor(observations)).softmax(1), 1, generator=generator)[:, 0]
        observations, rewards, dones, _ = env.step(actions.numpy())
        total += rewards
        for index in np.flatnonzero(dones):
            if quota[index]:
                quota[index] -= 1
                found.append(total[index])
            total[index] = 0.0
    return float(np.mean(found))


def everywhere(policy: nn.Module) -> dict[str, float]:
    return {physics: returns(policy, physics) for physics in PHYSICS}


def the_teacher() -> tuple[nn.Module, dict[str, float]]:
    """The best of three on the physics that all are trained on; kept, for all students are to have the same."""
    models = [learn(None, 0, seed) for seed in (100, 101, 102)]
    if not TEACHERS.exists():
        for number, model in enumerate(models):
            model = models[number] = learn(None, TEACHER_STEPS, 100 + number)
        torch.save([dict(model.policy.state_dict()) for model in models], TEACHERS)
    for model, state in zip(models, torch.load(TEACHERS, weights_only=True), strict=True):
        model.policy.load_state_dict(state)
    networks = [PolicyLogits(model.policy) for model in models]
    best = max(networks, key=lambda network: returns(network, "seen", seed=5))
    return best, everywhere(best)


def student(row: str, seed: int, teacher: nn.Module) -> dict[str, Any]:
    """Train one, and what it does with its last and its averaged weights."""
    method = Distillation(ROWS[row](), teacher=Teacher([teacher]), name=row)
    touched: list[float] = []
    method.register_forward_hook(
        lambda _, __, output: touched.append(float(output.metrics.get("kddg/fraction_filtered", 0.0)))
    )
    model = learn(method, STUDENT_STEPS, seed)
    scores = {
        "last": everywhere(PolicyLogits(model.policy)),
        "averaged": everywhere(PolicyLogits(model.averaged_policy())),
    }
    return {"row": row, "seed": seed, "filtered": float(np.mean(touched or [0.0])), "scores": scores}


def train(seeds: int) -> None:
    teacher, scores = the_teacher()
    if "teacher" not in {line["row"] for line in read(RESULTS)}:
        append(RESULTS, {"row": "teacher", "seed": 0, "filtered": 0.0, "scores": {"last": scores}})
    done = {(line["row"], line["seed"]) for line in read(RESULTS)}
    for seed in range(seeds):
        for row in ROWS:
            if (row, seed) not in done:
                append(RESULTS, student(row, seed, teacher))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train(options.seeds)


if __name__ == "__main__":
    main()
