"""Does a student generalise worse from its teacher's states alone than from diverse ones?

``python benchmarks/effect/state_diversity.py`` trains, for each seed, students on 50 levels of four rooms on the
answers of a perfect teacher alone (``task_weight=0``, squared error of probabilities), which differ in the driver only:

- ``teacher``: the teacher's states,
- ``student``: their own,
- ``mixed``: half the episodes each, begun with up to 20 random actions.

The lesson is Weltevrede et al. 2025 (arXiv 2505.16581): teacher .74 on unseen levels, a student on the teacher's
states .56, an ensemble on diverse states .88 (their environment, budget and data sets; see four_rooms.py). The teacher
here always walks a shortest path, so that whatever a student does not know is the fault of the states it learnt from.
Finished students are kept in ``results/state_diversity.jsonl`` and not trained again; ``--summary`` prints the table.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.effect.four_rooms import TIME_LIMIT, FourRooms, ShortestPath, draw, make_levels
from benchmarks.lines import append, read
from common.distillation import Distillation
from common.evaluation.statistics import standard_error
from common.losses import kl_divergence
from common.teacher import Teacher
from common.terms import ProbabilityMSE
from kdrl import DistilledPPO
from kdrl.drivers import Driver
from kdrl.networks import PolicyLogits

RESULTS = Path(__file__).parent / "results" / "state_diversity.jsonl"
DRIVERS = {"teacher": Driver(1.0), "student": Driver(), "mixed": Driver(0.5, random_steps=20)}
SEEN_LEVELS, UNSEEN_LEVELS, STUDENTS = 50, 400, 3
STUDENT_STEPS, NUM_ENVS = 60_000, 32
UNSEEN_SEED = 10_000


def train_student(seed: int, number: int, driver: str, teacher: nn.Module) -> PolicyLogits:
    env = FourRooms(NUM_ENVS, make_levels(SEEN_LEVELS, seed), seed)
    model = DistilledPPO(
        "MlpPolicy",
        env,
        policy_kwargs={"net_arch": [128, 128]},
        distillation=Distillation({"mse": ProbabilityMSE()}, task_weight=0.0, teacher=Teacher([teacher])),
        driver=DRIVERS[driver],
        seed=1000 * (number + 1) + seed,
        n_steps=32,
        batch_size=256,
        n_epochs=4,
        gamma=0.95,
        learning_rate=1e-3,
        device="cpu",
    )
    return PolicyLogits(model.learn(STUDENT_STEPS).policy)


@torch.no_grad()
def success(policy: nn.Module, levels: tuple[Any, ...]) -> float:
    """Every level once, actions sampled: the part that reaches its goal in time."""
    walls, goals, starts = levels
    generator = torch.Generator().manual_seed(0)
    env = FourRooms(len(walls), levels)
    env.level, env.agent = np.arange(len(walls)), starts.copy()
    observations, solved = draw(walls, starts, goals), np.zeros(len(walls), dtype=np.bool_)
    playing = ~solved
    for _ in range(TIME_LIMIT):
        probabilities = policy(torch.as_tensor(observations)).softmax(1)
        observations, rewards, dones, _ = env.step(
            torch.multinomial(probabilities, 1, generator=generator)[:, 0].numpy()
        )
        solved |= playing & (rewards > 0)
        playing &= ~dones
    return float(solved.mean())


def everywhere(levels: tuple[Any, ...]) -> Tensor:
    """An observation of every free cell of every level."""
    walls, goals, _ = levels
    level, *cell = np.nonzero(~walls)
    return torch.as_tensor(draw(walls[level], np.stack(cell, axis=1), goals[level]))


@torch.no_grad()
def judge(policy: nn.Module, teacher: nn.Module, seed: int) -> dict[str, float]:
    """Success on seen and unseen levels; in all states of unseen levels, the KL to the teacher's answers and how often
    the student's first choice is one of the teacher's."""
    seen, unseen = make_levels(SEEN_LEVELS, seed), make_levels(UNSEEN_LEVELS, UNSEEN_SEED + seed)
    states = everywhere(unseen)
    ours, theirs = policy(states), teacher(states)
    return {
        "seen": success(policy, seen),
        "unseen": success(policy, unseen),
        "kl": kl_divergence(ours, theirs).mean().item(),
        "agreement": (theirs.gather(1, ours.argmax(1, keepdim=True))[:, 0] > theirs.amax(1) - 1).float().mean().item(),
    }


def run_seed(seed: int, path: Path) -> None:
    """Students and their ensembles, unless they are there."""
    wanted = {(f"{driver} {kind}", seed) for driver in DRIVERS for kind in ("one", "three")}
    done = {(row["student"], row["seed"]) for row in read(path)}
    if wanted <= done:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    teacher = ShortestPath()
    rows = {}
    for driver in DRIVERS:
        students = [train_student(seed, number, driver, teacher) for number in range(STUDENTS)]
        single = [judge(student, teacher, seed) for student in students]
        rows[f"{driver} one"] = {key: float(np.mean([one[key] for one in single])) for key in single[0]}
        rows[f"{driver} three"] = judge(Teacher(students), teacher, seed)
    for name, values in rows.items():
        if (name, seed) not in done:
            append(path, {"seed": seed, "student": name} | values)


def summary(path: Path) -> str:
    """Means over seeds, and the paired difference of diverse to the teacher's states with its 95 % interval."""
    rows = read(path)
    names = list(dict.fromkeys(row["student"] for row in rows))
    lines = ["| student | seeds | seen | unseen | KL | agreement |", "|---|---|---|---|---|---|"]
    for name in names:
        mine = [row for row in rows if row["student"] == name]
        means = " | ".join(
            f"{np.mean([row[key] for row in mine]):.3f}" for key in ("seen", "unseen", "kl", "agreement")
        )
        lines.append(f"| {name} | {len(mine)} | {means} |")
    lines.append("")
    for better, worse in (
        ("mixed one", "teacher one"),
        ("student one", "teacher one"),
        ("mixed three", "mixed one"),
    ):
        by = {(row["student"], row["seed"]): row["unseen"] for row in rows}
        seeds = sorted(seed for name, seed in by if name == better)
        differences = np.array([by[better, seed] - by[worse, seed] for seed in seeds])
        half = stats.t.ppf(0.975, len(seeds) - 1) * standard_error(differences)
        lines.append(f"- unseen, {better} less {worse}: {differences.mean():+.3f} ± {half:.3f} (95 %)")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--summary", action="store_true", help="print the table of what there is, train nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if not options.summary:
        for seed in range(options.seeds):
            run_seed(seed, options.out)
    print(summary(options.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
