"""Every method of ``configs/method`` on rotated digits: trained on four angles, judged on two others as well.

Run: ``python benchmarks/digits/run.py``, and ``python benchmarks/digits/table.py`` for the table. Each cell (method,
seed) is one line of ``results.jsonl``, written when it is done; an interrupted run goes on where it stopped. All
methods of a seed share the split, the initial weights, the order of minibatches and the number of steps. The teacher is
plain training from another seed on the same images; it is a cell of its own, ``erm_again``, and so also the control: by
what it differs from ``erm`` is chance.
"""

import argparse
import functools
import importlib.metadata
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

if __name__ == "__main__":
    # Found from the checkout's root, also when kdshift is installed elsewhere.
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.digits.adapter import NAME, PROVIDES, Classification, DigitNetwork
from benchmarks.digits.domains import SEEN, TRAINED, UNSEEN, Split, rotated, split
from benchmarks.lines import append, read
from benchmarks.speed import machine
from common.averaging import WAKD
from common.directories import config_directory
from common.distillation import Distillation
from common.errors import InputError
from common.evaluation.calibration import calibration_counts
from common.evaluation.reliability import accuracy, expected_calibration_error
from common.method import make_distillation
from common.teacher import CrossFittedTeacher, Teacher
from common.terms import AuGKD

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.jsonl"
MACHINE = FOLDER / "machine.json"
CONTROL = "erm_again"
METHODS = sorted(path.stem for path in (config_directory() / "method").glob("*.yaml"))
STEPS = 400
BATCH = 64
FOLDS = 2

# What the tasks' configurations choose for themselves, chosen for classification: KD at the usual T = 4 and
# SD-Dropout at its paper's numbers.
STRENGTH = {
    "kd": 1.0,
    "temperature": 4.0,
    "threshold": 0.95,
    "reading": "student",
    "sd_dropout": 1.0,
    "rate": 0.5,
    "sd_temperature": 3.0,
    "cs_kd": 1.0,
    "ps_kd": 0.8,
}
# Where a paper has other numbers for this case, they are used: SD-Dropout on top of another method, Tf-KD self, beta
# smoothing. DPS's are not known; these are from before pixels asked for others.
OVERRIDES: dict[str, list[str]] = {
    "kddg_sdd": ["strength.sd_dropout=0.1"],
    "beta_smoothing": ["method.terms.beta_smoothing.alpha=0.6"],
    "dps": ["method.terms.dps.concentration=10.0"],
    "tf_kd_self": ["method.task_weight=0.05", "strength.kd=0.475", "strength.temperature=6.0"],
}


def make_method(name: str, teacher: Teacher | None) -> Distillation:
    """The method of a configuration, with the strengths above."""
    strength = [f"+strength.{key}={value}" for key, value in STRENGTH.items()]
    with initialize_config_dir(str(config_directory()), version_base="1.3"):
        config = compose(overrides=[f"+method={name}", *strength, *OVERRIDES.get(name, [])])
    node: Any = OmegaConf.to_container(config.method, resolve=True, throw_on_missing=True)
    made, _ = make_distillation(node, teacher, [])
    assert isinstance(made, Distillation)
    return made


@functools.cache
def refusals() -> dict[str, str]:
    """The methods that plain classification cannot serve, and why."""
    reasons = {}
    stand_in = Teacher([torch.nn.Identity()] * FOLDS)
    for name in METHODS:
        try:
            method = make_method(name, stand_in)
            method.check_needs(PROVIDES, NAME)
            if any(isinstance(term, AuGKD) for term in method.terms.values()):
                # Its teacher is of another domain, and its generator is prepared first.
                reasons[name] = f"{name} is compared in benchmarks/augkd"
        except InputError as error:
            reasons[name] = str(error)
    return reasons


def minibatches(samples: Tensor, steps: int, seed: int) -> Iterator[tuple[Tensor, bool]]:
    """``steps`` minibatches of sample numbers, shuffled anew every epoch, and whether each one ends its epoch."""
    generator = torch.Generator().manual_seed(seed)
    done = 0
    while done < steps:
        # Minibatches of one size: a small last one would upset BatchNorm.
        count = len(samples) // BATCH
        order = samples[torch.randperm(len(samples), generator=generator)][: count * BATCH].split(BATCH)
        for number, batch in enumerate(order[: steps - done], start=1):
            yield batch, number == count
        done += count


def train(
    digits: Split, distillation: Distillation, seed: int, samples: Tensor | None = None, steps: int = STEPS
) -> tuple[Classification, dict[str, float]]:
    """Train a network from a seed; returns it with the seconds it took, on the clock and of processor time."""
    images, labels = digits.training()
    samples = torch.arange(len(labels)) if samples is None else samples
    torch.manual_seed(seed)
    network = DigitNetwork()
    training = Classification(network, distillation, steps, (images[:2], labels[:2]), WAKD(buffers="average"))
    # Terms may have drawn their own initial weights: what they draw from here on does not depend on that.
    torch.manual_seed(seed)
    wall, processor = time.perf_counter(), time.process_time()
    for batch, last in minibatches(samples, steps, seed):
        training.step(images[batch], labels[batch], batch)
        if last:
            training.end_epoch()
    seconds = {"seconds": time.perf_counter() - wall, "processor_seconds": time.process_time() - processor}
    return training, seconds


@torch.no_grad()
def score(network: torch.nn.Module, digits: Split) -> dict[str, dict[str, float]]:
    """Accuracy and calibration error of each angle, and of the seen and the unseen angles pooled."""
    network.eval()
    tables = {}
    for angle in (*SEEN, *UNSEEN):
        images, labels = digits.test(angle)
        tables[str(angle)] = calibration_counts(network(images), labels)
    for name, angles in (("seen", SEEN), ("unseen", UNSEEN)):
        tables[name] = sum((tables[str(angle)] for angle in angles[1:]), tables[str(angles[0])])
    return {
        name: {
            "accuracy": round(float(accuracy(table)), 6),
            "ece": round(float(expected_calibration_error(table)), 6),
        }
        for name, table in tables.items()
    }


class Teachers:
    """The teachers of one seed, trained when they are first asked for."""

    def __init__(self, digits: Split, seed: int, steps: int = STEPS) -> None:
        self.digits, self.seed, self.steps = digits, seed, steps
        self._whole: tuple[Classification, dict[str, float]] | None = None
        self._folds: CrossFittedTeacher | None = None

    def whole(self) -> tuple[Classification, dict[str, float]]:
        """Plain training from another seed."""
        if self._whole is None:
            self._whole = train(self.digits, Distillation(name="erm"), self.seed + 1000, steps=self.steps)
        return self._whole

    def folds(self) -> CrossFittedTeacher:
        """One network a fold, trained without it; an image is in one fold at all its angles."""
        if self._folds is None:
            fold = (torch.arange(TRAINED) % FOLDS).repeat(len(SEEN))
            networks = [
                train(
                    self.digits, Distillation(name="erm"), self.seed + 2000 + k, (fold != k).nonzero()[:, 0], self.steps
                )
                for k in range(FOLDS)
            ]
            self._folds = CrossFittedTeacher([training.network for training, _ in networks], fold)
        return self._folds

    def of(self, name: str) -> Teacher:
        """The teacher a method is given; one that asks none drops it."""
        return self.folds() if name == "cross_fitted" else Teacher([self.whole()[0].network])


def cell(name: str, seed: int, digits: Split, teachers: Teachers, steps: int = STEPS) -> dict[str, Any]:
    """Train and judge one method from one seed."""
    if name == CONTROL:
        training, seconds = teachers.whole()
    else:
        needs_teacher = "teacher" in {need for term in make_terms(name) for need in term.needs}
        training, seconds = train(
            digits, make_method(name, teachers.of(name) if needs_teacher else None), seed, steps=steps
        )
    assert training.averager is not None
    scores = {"live": score(training.network, digits), "wakd": score(training.averager.finish(), digits)}
    return {
        "method": name,
        "seed": seed,
        "steps": steps,
        "overrides": OVERRIDES.get(name, []),
        **{key: round(value, 4) for key, value in seconds.items()},
        "scores": scores,
    }


def make_terms(name: str) -> list[Any]:
    """The terms of a method."""
    return list(make_method(name, Teacher([torch.nn.Identity()] * FOLDS)).terms.values())


def run_seed(seed: int, names: list[str], path: Path, steps: int = STEPS) -> None:
    """Every cell of a seed that is not done yet, in an order of its own, so that no method always comes last."""
    torch.set_num_threads(1)
    done = {row["method"] for row in read(path) if row["seed"] == seed}
    missing = [name for name in names if name not in done]
    random.Random(seed).shuffle(missing)
    if not missing:
        return
    digits = split(seed, rotated())
    teachers = Teachers(digits, seed, steps)
    for name in missing:
        row = cell(name, seed, digits, teachers, steps)
        append(path, row)
        unseen = row["scores"]["live"]["unseen"]["accuracy"]
        print(f"seed {seed} {name}: {unseen:.3f} unseen, {row['seconds']:.1f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    refused = refusals()
    for reason in refused.values():
        print(reason)
    names = [*(name for name in METHODS if name not in refused), CONTROL]
    if options.out == RESULTS:
        described = machine.describe("cpu")
        described["versions"]["scikit-learn"] = importlib.metadata.version("scikit-learn")
        MACHINE.write_text(json.dumps(described, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    # Not forked: threads that torch has started do not survive a fork.
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        waiting = [pool.apply_async(run_seed, (seed, names, options.out)) for seed in range(options.seeds)]
        for result in waiting:
            result.get()


if __name__ == "__main__":
    main()
