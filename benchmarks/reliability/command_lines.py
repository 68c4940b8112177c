"""2,500 odd command lines of the programs that do not train: refused in one line, or done; a run is never harmed.

``python benchmarks/reliability/command_lines.py`` trains a small run of each task, and asks evaluations, predictions,
films, exports, the check of images and the report for values that make no sense, each to its end.
``results/command_lines.json`` has how many were refused and done, and every one that ended in a traceback or in more
than one line, took a number that is not finite or is negative, or changed what training had written.
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
from typing import Any, NamedTuple

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])
os.environ["HF_HUB_OFFLINE"] = "1"

import common.report.main
import kdrl.evaluate
import kdrl.export
import kdrl.play
import kdrl.train
import kdseg.check
import kdseg.evaluate
import kdseg.export
import kdseg.predict
import kdseg.train
from benchmarks.speed import machine
from tests.odd_settings import VALUES, ended, fault, keys_of, odd_number, tried
from tests.test_configuration_fuzz import POLICY, SEGMENTATION

RESULTS = Path(__file__).parent / "results" / "command_lines.json"
NUCLEI = Path(__file__).parents[2] / "tests" / "data" / "nuclei"
TEXTS = ("run", "out", "target", "root", "images", "license", "push", "device", "modules", "class_names", "metadata")
"""Keys whose value may be any text."""


class Tool(NamedTuple):
    """A program.

    Attributes:
        main: It.
        config: Its configuration; none for the report, whose options are listed here.
        sound: A command line that ends well.
    """

    main: Callable[[], object]
    config: str | None
    sound: list[str]


REPORT_OPTIONS = ("--out", "--reference", "--resamples", "--nothing")
LONG = ("episodes", "most", "steps", "restarts", "resamples")
"""What may be asked for in any number, and then takes as long as it takes: no number beyond a hundred is tried."""


def tools(policy: Path, network: Path) -> dict[str, Tool]:
    """Every program that takes a finished run or images, at its smallest."""
    images = NUCLEI / "fluorescence" / "images"
    few = ["measures=[analysis]", "most=1"]
    return {
        "kdrl-evaluate": Tool(kdrl.evaluate.main, "kdrl/evaluate", [f"run={policy}", *few]),
        "kdseg-evaluate": Tool(kdseg.evaluate.main, "kdseg/evaluate", [f"run={network}", f"root={NUCLEI}", *few]),
        "kdseg-predict": Tool(kdseg.predict.main, "kdseg/predict", [f"run={network}", f"images={images}", "out=masks"]),
        "kdseg-check": Tool(
            kdseg.check.main, "kdseg/check", ["data=nuclei", f"data.root={NUCLEI}", "data.target=fluorescence"]
        ),
        "kdrl-play": Tool(kdrl.play.main, "kdrl/play", [f"run={policy}", "out=film.webp", "episodes=1", "most=3"]),
        "kdrl-export": Tool(kdrl.export.main, "kdrl/export", [f"run={policy}", "out=shared", "onnx=false"]),
        "kdseg-export": Tool(kdseg.export.main, "kdseg/export", [f"run={network}", "out=shared", "onnx=false"]),
        "kd-report": Tool(common.report.main.main, None, [str(policy), str(network), "--out", "report"]),
    }


def odd(tool: Tool, keys: Sequence[str], rng: np.random.Generator) -> list[str]:
    """One or two changes."""
    changes = []
    for _ in range(int(rng.integers(1, 3))):
        key = keys[rng.integers(len(keys))]
        short = key.strip("-").split(".")[-1] in LONG
        values = [value for value in VALUES if not (short and value.isdecimal() and int(value) > 100)]
        value = values[rng.integers(len(values))]
        changes += [key, value] if tool.config is None else [f"{key}={value}"]
    return changes


def outcome(tool: Tool, arguments: Sequence[str]) -> tuple[str, str | None]:
    """``refused`` or ``done``, and what is wrong with it."""

    def ends(task: Callable[[Any], object]) -> None:
        status = tool.main()
        if status:
            raise SystemExit(status)
        task("done")

    fate = ended(ends, [*tool.sound, *arguments])
    if isinstance(fate, str):
        return "traceback", fate
    if fate.status:
        return "refused", None if tool.config is None and "usage:" in fate.error else fault(arguments, fate)
    for argument in arguments:
        key, _, text = argument.lstrip("+~").partition("=")
        if odd_number(text) and key.split(".")[-1] not in TEXTS:
            return "done", f"{argument} is taken"
    return "done", None


def written(*runs: Path) -> dict[Path, bytes]:
    """What training wrote."""
    return {
        path: path.read_bytes()
        for run in runs
        for path in sorted(run.rglob("*"))
        if path.is_file() and path.name not in ("measures.jsonl", "lock")
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=2500)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)
    work = Path(tempfile.mkdtemp(prefix="command-lines-"))
    os.chdir(work)
    policy, network = work / "runs" / "policy", work / "runs" / "network"
    for program, sound, run in (
        (kdrl.train.main, POLICY, policy),
        (kdseg.train.main, [*SEGMENTATION, f"data.root={NUCLEI}"], network),
    ):
        fate = tried(lambda _, program=program: program(), [*sound, f"run_dir={run}"])  # type: ignore[misc]
        if fate.status:
            raise RuntimeError(fate.error)
    before = written(policy, network)
    fates: dict[str, Counter[str]] = {}
    faults: list[str] = []
    every = tools(policy, network)
    for name, tool in every.items():
        keys = REPORT_OPTIONS if tool.config is None else keys_of(tool.config, tool.sound)
        rng = np.random.default_rng(len(name))
        fates[name] = Counter()
        for _ in range(options.lines // len(every)):
            arguments = odd(tool, keys, rng)
            fate_of, wrong = outcome(tool, arguments)
            fates[name][fate_of] += 1
            if wrong is None and written(policy, network) != before:
                raise RuntimeError(f"{name} {arguments} changed what training had written")
            if wrong:
                faults.append(f"{name}: {' '.join(arguments)}: {wrong[-1500:]}".replace(str(work), "WORK"))
                print(faults[-1], flush=True)
        print(name, dict(fates[name]), len(faults), flush=True)
    counts = {name: dict(sorted(own.items())) for name, own in fates.items()}
    result = {"machine": machine.describe("cpu"), "lines": options.lines, **counts, "faults": faults}
    RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    shutil.rmtree(work, ignore_errors=True)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
