"""AuG-KD on rotated digits: a teacher of 0 and 15 degrees whose data are gone, a student of 45 and 60.

Run: ``python benchmarks/augkd/digits.py``, and ``python benchmarks/augkd/table.py`` for the table. A cell (labelled
part, seed, row) is one line of ``results/digits.jsonl``; an interrupted run goes on where it stopped. All students of a
seed share the labelled images, the order of minibatches and the number of steps; the time of the preparation is beside
the students'. Teacher's and student's images are of different digits, and both are tested on others again.
"""

import argparse
import dataclasses
import itertools
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.digits.adapter import Classification, DigitNetwork
from benchmarks.digits.domains import rotated
from benchmarks.lines import append, read
from common.augkd import Artefact, Domain, Layout, Preparation, Sample, prepare
from common.augkd.folder import ArtefactFolder
from common.distillation import Distillation
from common.teacher import Teacher
from common.terms import KD, AuGKD, Term

RESULTS = Path(__file__).parent / "results" / "digits.jsonl"
WORK = Path("runs/augkd-digits")
TEACHERS, STUDENTS = (0, 15), (45, 60)
PARTS = (0.05, 0.25, 1.0)
EACH = 600  # digits of the teacher, and as many of the student
STEPS, TEACHER_STEPS, BATCH = 400, 800, 64
# Twice the student's channels.
TEACHER_WIDTHS, WIDTHS = (16, 32, 64), (8, 16, 32)
WEIGHT, TEMPERATURE = 0.5, 2.0
PREPARATION = Preparation(latent=32, width=16, data_free_rounds=400, anchor_rounds=300)
LAYOUT = Layout(10, 1, (16, 16), False, (-0.5,), (0.5,))
# The mean of the curriculum over training: as much of the student's own, all the time.
CONSTANT = 0.6 * (0.2 + 1.0) / 2 + 0.4

ROWS = (
    *("labels", "kd", "kd_agreeing", "data_free", "augkd", "augkd_no_anchor", "augkd_no_curriculum"),
    *("augkd_everywhere", "augkd_fresh", "augkd_generated"),
)


@dataclasses.dataclass
class Seed:
    """The data and the teacher of a seed."""

    seed: int

    def __post_init__(self) -> None:
        self.images, self.labels = rotated()
        order = torch.randperm(len(self.labels), generator=torch.Generator().manual_seed(self.seed))
        self.theirs, self.own, self.test = order[:EACH], order[EACH : 2 * EACH], order[2 * EACH :]
        images, labels = self.at(self.theirs, TEACHERS)
        plain = Distillation(name="erm")
        network = DigitNetwork(widths=TEACHER_WIDTHS)
        # Kept: another process may round otherwise, and what is prepared belongs to this very teacher.
        path = WORK / f"seed{self.seed}" / "teacher.pt"
        if path.exists():
            network.load_state_dict(torch.load(path, weights_only=True))
        else:
            network = train(network, plain, images, labels, self.seed + 100, TEACHER_STEPS)
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(network.state_dict(), path)
        self.network = network.eval()

    def at(self, chosen: Tensor, angles: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Digits at every one of the angles, and their labels."""
        return torch.cat([self.images[angle][chosen] for angle in angles]), self.labels[chosen].repeat(len(angles))

    @torch.no_grad()
    def scores(self, network: nn.Module) -> dict[str, float]:
        """Accuracy on the student's angles and on the teacher's, of digits that neither was trained on."""
        network.eval()
        found = {}
        for name, angles in (("own", STUDENTS), ("teachers", TEACHERS)):
            images, labels = self.at(self.test, angles)
            found[name] = round(float((network(images).argmax(dim=1) == labels).float().mean()), 6)
        return found


def minibatches(count: int, seed: int, start: int = 0) -> Iterator[Tensor]:
    """Endless minibatches of sample numbers."""
    for number in itertools.count(start):
        generator = torch.Generator().manual_seed(1_000_003 * seed + number)
        yield torch.randint(count, (BATCH,), generator=generator)


def train(
    network: DigitNetwork, method: Distillation, images: Tensor, labels: Tensor, seed: int, steps: int
) -> DigitNetwork:
    """Train; the seed decides the order of minibatches and whatever terms draw."""
    torch.manual_seed(seed)
    training = Classification(network, method, steps, (images[:2], labels[:2]))
    for chosen in itertools.islice(minibatches(len(images), seed), steps):
        training.step(images[chosen], labels[chosen], chosen)
    return network.eval()


def student(seed: int) -> DigitNetwork:
    """As it begins, where nothing is learnt from the generator alone."""
    torch.manual_seed(seed)
    return DigitNetwork(widths=WIDTHS)


def prepared(
    data: Seed, part: float, images: Tensor, labels: Tensor, anchored: bool
) -> tuple[Artefact, ArtefactFolder]:
    """The artefact. Its first stage is that of the smallest part, whose labels are among all others'."""

    def batches(start: int) -> Iterator[Sample]:
        for chosen in minibatches(len(images), data.seed, start):
            yield Sample(images[chosen], labels[chosen])

    def folder(of: float, with_anchor: bool) -> Path:
        return WORK / f"seed{data.seed}" / f"{of}{'' if with_anchor else '-without'}"

    path, first = folder(part, anchored), folder(PARTS[0], True)
    artefact = prepare(
        PREPARATION,
        Teacher([data.network]),
        student(data.seed),
        Domain(LAYOUT, batches, f"digits {data.seed}"),
        path,
        seed=data.seed,
        anchored=anchored,
        taken=None if path == first else first,
    )
    return artefact, ArtefactFolder(path)


def cells(data: Seed, part: float, rows: list[str]) -> Iterator[dict[str, Any]]:
    """Train and judge what is missing of a labelled part."""
    count = round(part * EACH)
    images, labels = data.at(data.own[:count], STUDENTS)
    artefact, folder = prepared(data, part, images, labels, anchored=True)
    without, _ = prepared(data, part, images, labels, anchored=False)
    costs = {name: round(facts.seconds, 2) for name, facts in folder.stages.items()}
    measured = {name: round(value, 4) for name, value in folder.measured.items()}
    options: dict[str, Any] = {"weight": WEIGHT, "temperature": TEMPERATURE}
    terms: dict[str, Term] = {
        "kd": KD(**options),
        # On the student's own samples alone, where the teacher is right.
        "kd_agreeing": AuGKD(**options, real=1.0, artefact=artefact),
        "augkd": AuGKD(**options, artefact=artefact),
        # The paper's.
        "augkd_everywhere": AuGKD(**options, agreeing=False, artefact=artefact),
        "augkd_fresh": AuGKD(**options, artefact=artefact),
        "augkd_no_anchor": AuGKD(**options, artefact=without),
        "augkd_no_curriculum": AuGKD(**options, real=CONSTANT, artefact=artefact),
        "augkd_generated": AuGKD(**options, real=0.0, artefact=artefact),
    }
    for row in rows:
        network = student(data.seed)
        if row not in ("labels", "kd", "kd_agreeing", "augkd_fresh"):
            folder.load("data_free", {"student": network})
        method = Distillation({row: terms[row]} if row in terms else None, teacher=Teacher([data.network]), name=row)
        started = time.perf_counter()
        trained = train(network, method, images, labels, data.seed, STEPS)
        seconds = round(time.perf_counter() - started, 3)
        told = {"costs": costs, "measured": measured} if row == "augkd" else {}
        yield {"part": part, "seed": data.seed, "row": row, "seconds": seconds, **data.scores(trained), **told}


def run_seed(seed: int, path: Path) -> None:
    """Every cell of a seed that is not done yet."""
    torch.set_num_threads(1)
    done = {(line["part"], line["row"]) for line in read(path) if line["seed"] == seed}
    wanted = {part: [row for row in ROWS if (part, row) not in done] for part in PARTS}
    if not any(wanted.values()) and (0.0, "teacher") in done:
        return
    data = Seed(seed)
    if (0.0, "teacher") not in done:
        append(path, {"part": 0.0, "seed": seed, "row": "teacher", "seconds": 0.0, **data.scores(data.network)})
    for part, rows in wanted.items():
        random.Random(seed).shuffle(rows)
        if rows:
            for line in cells(data, part, rows):
                append(path, line)
                print(f"seed {seed}, {part:.0%}, {line['row']}: {line['own']:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10, help="1 to this one; 0 was for trials")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    RESULTS.parent.mkdir(exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        for result in [pool.apply_async(run_seed, (seed, RESULTS)) for seed in range(1, options.seeds + 1)]:
            result.get()


if __name__ == "__main__":
    main()
