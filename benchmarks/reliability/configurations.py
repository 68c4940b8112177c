"""10,000 command lines with values that make no sense: refused in one line, or harmless.

``python benchmarks/reliability/configurations.py`` writes ``results/configurations.json``: how many were refused and
how many would have been trained, and every one that ended in a traceback or in a library's own words, or would have
been trained with a number that is not finite or is negative where that means nothing (*silent*). Each goes through the
real programs up to the first step of training; one in ten of those that would be trained is trained.
"""

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
os.environ["HF_HUB_OFFLINE"] = "1"

import kdrl.train
import kdseg.train
from benchmarks.speed import machine
from tests.odd_settings import ended, fault, keys_of, odd_arguments
from tests.test_configuration_fuzz import (
    MORE_POLICY,
    MORE_SEGMENTATION,
    POLICY,
    SEGMENTATION,
    policy_main,
    segmentation_main,
)

RESULTS = Path(__file__).parent / "results" / "configurations.json"
NUCLEI = Path(__file__).parents[2] / "tests" / "data" / "nuclei"
TRAINED = 10

Main = Callable[[Callable[[Any], object]], None]


def outcome(main: Main, sound: Sequence[str], arguments: Sequence[str]) -> tuple[str, str | None]:
    """``refused`` or ``built``, and what is wrong with it."""
    fate = ended(main, [*sound, *arguments])
    if isinstance(fate, str):
        return "traceback", fate
    return "refused" if fate.status else "built", fault(arguments, fate)


def whole(main: Callable[[], None]) -> Main:
    """A whole program, which trains."""

    def trains(task: Callable[[Any], object]) -> None:
        main()
        task(None)

    return trains


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=["policies", "segmentation"], help="both by default")
    parser.add_argument("--configurations", type=int, default=10000, help="how many, half of them of either task")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    fates: dict[str, Counter[str]] = {task: Counter() for task in options.tasks}
    faults: list[str] = []
    work = Path(tempfile.mkdtemp(prefix="configurations-"))
    os.chdir(work)
    for task, build, program, sound, more in (
        ("policies", policy_main, kdrl.train.main, POLICY, MORE_POLICY),
        (
            "segmentation",
            segmentation_main,
            kdseg.train.main,
            [*SEGMENTATION, f"data.root={NUCLEI}"],
            MORE_SEGMENTATION,
        ),
    ):
        if task not in fates:
            continue
        keys = keys_of(f"{'kdrl' if task == 'policies' else 'kdseg'}/train", sound)
        rng = np.random.default_rng(len(keys))
        for number in range(options.configurations // 2):
            arguments = odd_arguments(keys, more, rng)
            fate, wrong = outcome(build, sound, arguments)
            fates[task][fate] += 1
            if wrong is None and fate == "built" and fates[task]["built"] % TRAINED == 0:
                trained, wrong = outcome(whole(program), sound, arguments)
                fates[task][
                    f"of these, trained: {'stopped in one line' if trained == 'refused' else 'to the end'}"
                ] += 1
                if wrong is not None and wrong.startswith("it ended as if"):
                    wrong = None
                shutil.rmtree(work / "run", ignore_errors=True)
            if wrong:
                faults.append(f"{task}: {' '.join(arguments)}: {wrong[-1500:]}")
                print(faults[-1], flush=True)
            if number % 100 == 99:
                print(task, number + 1, dict(fates[task]), len(faults), flush=True)
    before = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if before.get("configurations") != options.configurations:
        before = {}
    kept = [one for one in before.pop("faults", []) if one.split(":")[0] not in fates]
    told = {task: dict(sorted(counts.items())) for task, counts in fates.items()}
    asked = {"machine": machine.describe("cpu"), "configurations": options.configurations}
    result = {**before, **asked, **told, "faults": kept + faults}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
