"""How costs grow: a loss with classes and pixels, a step with terms and teachers, a rollout with environments.

Run: ``python -m benchmarks.speed.growth``; writes ``results/growth.json`` and ``growth.svg``. Every point is a median;
``slope`` is that of the logarithms, 1 where costs are in proportion.
"""

import argparse
import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from omegaconf import OmegaConf

from benchmarks.programs import configured
from benchmarks.speed.machine import describe
from benchmarks.speed.ppo import Player, make_ours, settings
from common.device import keep_freed_memory
from common.distillation import Distillation
from common.method import make_distillation
from common.teacher import Teacher
from common.terms import KD
from common.view import View

HERE = Path(__file__).parent
Curve = dict[str, Any]


def median(work: Callable[[], object], repeats: int) -> float:
    """Seconds, after one call that is not counted."""
    seconds = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def curve(points: dict[int, float], of: str) -> Curve:
    """A curve, and how steep it is from its middle on, where what is paid once does not matter."""
    sizes, seconds = np.array(list(points)), np.array(list(points.values()))
    late = sizes >= np.median(sizes)
    slope = float(np.polyfit(np.log(sizes[late]), np.log(seconds[late]), 1)[0])
    return {
        "of": of,
        "sizes": sizes.tolist(),
        "seconds": [round(value, 6) for value in seconds],
        "slope": round(slope, 3),
    }


class Head(torch.nn.Module):
    """A student that is its head alone, so that nothing but losses is timed."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.head = torch.nn.Conv2d(features, classes, 1)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(inputs)
        return logits


def losses(method: Distillation, classes: int, side: int) -> Callable[[], None]:
    """Forward and backward pass of a method's losses on maps of 4 samples of 16 features."""
    student, features = Head(16, classes), torch.randn(4, 16, side, side)
    teacher_logits, targets = torch.randn(4, classes, side, side), torch.randint(classes, (4, side, side))

    def work() -> None:
        logits = student(features)
        view = View(
            inputs=features,
            features=features,
            head=student.head,
            logits=logits,
            forward=student,
            targets=targets,
            teacher_logits=teacher_logits,
        )
        task = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
        method(view, task).loss.backward()

    return work


def kddg_sdd(classes: int) -> Distillation:
    """The method, with a teacher that is never asked: its logits are given."""
    node: Any = OmegaConf.to_container(configured("kdseg", "data=folder", "method=kddg_sdd").method, resolve=True)
    return make_distillation(node, Teacher([Head(16, classes)]), [])[0]


def several(terms: int) -> Distillation:
    """As many terms alike."""
    return Distillation({f"kd{number}": KD() for number in range(terms)}, teacher=Teacher([Head(16, 4)]))


def measure(quick: bool = False) -> dict[str, Curve]:
    """All curves."""
    torch.manual_seed(0)
    keep_freed_memory()
    repeats = 1 if quick else 9
    some = slice(2) if quick else slice(None)
    pixels = {side * side: losses(kddg_sdd(4), 4, side) for side in (32, 64, 128, 256)[some]}
    classes = {count: losses(kddg_sdd(count), count, 96) for count in (2, 4, 8, 16, 32)[some]}
    terms = {count: losses(several(count), 4, 96) for count in (1, 2, 4, 8)[some]}
    asked = torch.rand(4, 16, 96, 96)
    ensembles = {count: Teacher([Head(16, 32) for _ in range(count)]) for count in (1, 2, 4, 8)[some]}
    teachers = {count: functools.partial(ensemble, asked) for count, ensemble in ensembles.items()}
    environments = {}
    for count in (16, 32, 64, 128)[some]:
        player = Player(make_ours(settings("kddg_sdd", environments=count, steps=8 if quick else 64)))
        environments[count] = median(player.turn, 1 if quick else 3)
        player.model.env.close()  # type: ignore[union-attr]

    def timed(works: dict[int, Callable[[], Any]], of: str) -> Curve:
        return curve({size: median(work, repeats) for size, work in works.items()}, of)

    return {
        "pixels": timed(pixels, "losses of kddg_sdd, 4 maps of 4 classes, against pixels of a map"),
        "classes": timed(classes, "losses of kddg_sdd, 4 maps of 96x96, against classes"),
        "terms": timed(terms, "losses, 4 maps of 96x96 and 4 classes, against kd terms"),
        "teachers": timed(teachers, "an ensemble's answer, against its teachers"),
        "environments": curve(environments, "PPO with kddg_sdd, rollout and update of 64 steps, against environments"),
    }


def draw(curves: dict[str, Curve]) -> Figure:
    """All curves, a panel each, on logarithmic axes."""
    figure = Figure(figsize=(3.2 * len(curves), 3), layout="constrained")
    for axes, (name, found) in zip(figure.subplots(1, len(curves)), curves.items(), strict=True):
        axes.loglog(found["sizes"], [1e3 * value for value in found["seconds"]], "o-", color="#0072b2")
        axes.set_title(f"{name}, slope {found['slope']:.2f}", fontsize=9)
        axes.set_xlabel(name)
        axes.set_ylabel("milliseconds")
    return figure


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    curves = measure()
    written = {"machine": describe("cpu"), "curves": curves}
    (HERE / "results" / "growth.json").write_text(json.dumps(written, indent=1) + "\n")
    draw(curves).savefig(HERE / "growth.svg", metadata={"Date": None})
    print(json.dumps({name: found["slope"] for name, found in curves.items()}, indent=1))


if __name__ == "__main__":
    main()
