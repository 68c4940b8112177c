"""What a method does to a policy under shifted physics: a control task on which ten seeds take minutes.

``python benchmarks/effect/control.py`` trains, for each seed and row, a student on CartPole-v1 whose pole is of medium
length, and judges it there and where the pole is long, short, or everything heavy. The teacher is one of three trained
ten times as long, the best of them *on the physics it was trained on*. ``results/control.jsonl`` has a line a student,
and those that are there are not trained again; ``--summary`` writes ``control.md``.

Settings are chosen by what they gain on the seen physics (``seen``); the unseen ones are reported and choose nothing.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from scipy import stats
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv
from torch import nn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.effect.committed import rows_in
from common.averaging import WAKD
from common.distillation import Distillation
from common.evaluation.statistics import LEVEL, holm, paired_interval
from common.teacher import Teacher
from common.terms import KD, KDDG, SDDropout, Term
from kdrl import DistilledPPO
from kdrl.networks import PolicyLogits

FOLDER = Path(__file__).parent
RESULTS, PAGE = FOLDER / "results" / "control.jsonl", FOLDER / "control.md"
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
    if "teacher" not in {line["row"] for line in rows_in(RESULTS)}:
        _append({"row": "teacher", "seed": 0, "filtered": 0.0, "scores": {"last": scores}})
    done = {(line["row"], line["seed"]) for line in rows_in(RESULTS)}
    for seed in range(seeds):
        for row in ROWS:
            if (row, seed) not in done:
                _append(student(row, seed, teacher))


def _append(line: dict[str, Any]) -> None:
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")


def table(rows: list[dict[str, Any]], weights: str) -> list[str]:
    """Means over seeds, and the paired difference to ``kd`` with its 95 % interval."""
    scores = {(line["row"], line["seed"]): line["scores"].get(weights, {}) for line in rows}
    names = [name for name in ROWS if (name, 0) in scores]
    lines = [
        f"| row | filtered | {' | '.join(PHYSICS)} | seen − kd | unseen − kd |",
        "|---|--:|" + "--:|" * (len(PHYSICS) + 2),
    ]
    for name in names:
        seeds = sorted(seed for row, seed in scores if row == name and ("kd", seed) in scores)
        mine = [scores[name, seed] for seed in seeds]
        filtered = np.mean([line["filtered"] for line in rows if line["row"] == name])
        means = " | ".join(f"{np.mean([one[physics] for one in mine]):.0f}" for physics in PHYSICS)
        differences = [
            _difference([_mean(scores[name, seed], over) - _mean(scores["kd", seed], over) for seed in seeds])
            for over in (("seen",), UNSEEN)
        ]
        differences = ["–", "–"] if name == "kd" else differences
        lines.append(f"| {name} | {100 * filtered:.0f} % | {means} | {' | '.join(differences)} |")
    return lines


def beside_plain(rows: list[dict[str, Any]]) -> list[str]:
    """What the last weights of each row gain over plain PPO, physics by physics; Holm over rows and unseen physics."""
    scores = {(line["row"], line["seed"]): line["scores"]["last"] for line in rows}
    names = [name for name in ROWS if name != "ppo" and (name, 0) in scores]
    gains = {
        (name, physics): [
            scores[name, seed][physics] - scores["ppo", seed][physics]
            for row, seed in sorted(scores)
            if row == name and ("ppo", seed) in scores
        ]
        for name in names
        for physics in PHYSICS
    }
    asked = [key for key in gains if key[1] in UNSEEN]
    sure = {
        key: value <= LEVEL
        for key, value in zip(asked, holm([stats.ttest_1samp(gains[key], 0).pvalue for key in asked]), strict=True)
    }
    lines = [f"| row | {' | '.join(PHYSICS)} |", f"|---|{'---|' * len(PHYSICS)}"]
    for name in names:
        cells = (f"{_difference(gains[name, one])}{' *' if sure.get((name, one)) else ''}" for one in PHYSICS)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _mean(scores: dict[str, float], over: tuple[str, ...]) -> float:
    return float(np.mean([scores[physics] for physics in over]))


def _difference(values: list[float]) -> str:
    interval = paired_interval(values)
    return f"{np.mean(values):+.0f}" + (f" [{interval.low:+.0f}, {interval.high:+.0f}]" if interval else "")


def page() -> str:
    rows = rows_in(RESULTS)
    teacher = next(line for line in rows if line["row"] == "teacher")["scores"]["last"]
    seeds = max(line["seed"] for line in rows) + 1
    answers = ", ".join(f"{physics} {value:.0f}" for physics, value in teacher.items())
    return "\n".join(
        [
            "# CartPole with shifted physics",
            "",
            f"Written by `benchmarks/effect/control.py` from `results/control.jsonl`: {seeds} seeds a row, {EPISODES} "
            f"episodes of sampled actions a number, students {STUDENT_STEPS:,} steps, the teacher {TEACHER_STEPS:,}. "
            "Differences are paired by seed, with 95 % intervals of Student's t. A number after a reading is the "
            f"filter's threshold. The teacher itself: {answers}.",
            "",
            "## What it adds to plain PPO of equally many steps",
            "",
            "Last weights, mean return less that of plain PPO. `*` marks p ≤ 0.05 after Holm's correction over rows "
            "and unseen physics.",
            "",
            *beside_plain(rows),
            "",
            "## Last weights",
            "",
            *table(rows, "last"),
            "",
            "## Averaged weights (WAKD)",
            "",
            *table(rows, "averaged"),
            "",
            "## What follows",
            "",
            "A reading was to be chosen that acts and does no harm, by the *seen* physics alone. `student`, at the "
            "threshold that segmentation uses, touches one position in a hundred; set low enough to act it scales the "
            "policy's own loss away. `teacher` takes away what is to be learnt: on a control task the teacher is sure "
            "where it matters. `overlap` at .95, which filters KD's own gradient where it is small, acts and loses "
            "nothing: it is the default on policies. None of the readings *gains* over plain KD here. KD hands on what "
            "its teacher can and what it cannot: under long poles, where this teacher fails, plain PPO is better. "
            "An average of all weights from a tenth of so short a training on is worse than the last weights.",
            "",
        ]
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--summary", action="store_true", help="train nothing, write the page of what there is")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.summary:
        train(options.seeds)
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
