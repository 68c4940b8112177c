"""What a page of a hundred runs weighs, and how long it takes to write and, in a browser, to open.

Run: ``python benchmarks/evaluation/page.py``; writes ``results/page.json``. Two short trainings, one of each task, are
measured and then copied under other seeds and methods' names.
"""

import argparse
import dataclasses
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.programs import call
from benchmarks.speed.machine import describe
from common.runs.folder import Run
from common.runs.identity import Identity
from common.runs.records import Record

RESULTS = Path(__file__).parent / "results" / "page.json"
NUCLEI = Path(__file__).parents[2] / "tests" / "data" / "nuclei"
METHODS, SEEDS = ("erm", "kd", "kddg", "sd_dropout", "cs_kd"), 10
TRAIN = {
    "kdseg": (
        *("data=nuclei", f"data.root={NUCLEI}", "data.target=fluorescence", "data.crop_size=64", "evaluation.every=10"),
        *("trainer.max_steps=40", "trainer.accelerator=cpu", "+trainer.enable_progress_bar=false"),
    ),
    "kdrl": (
        *("env=coinrun", "env.num_envs=16", "env.threads=0", "total_timesteps=8192", "ppo.n_steps=64", "device=cpu"),
        *("ppo.batch_size=256", "evaluation.episodes=32", "evaluation.every=2048", "evaluation.progress_episodes=16"),
    ),
}
JUDGE = {"kdseg": ("device=cpu", "most=4"), "kdrl": ("device=cpu", "most=4", "episodes=8", "num_envs=8", "looks=[]")}


def copies(run: Run, folder: Path) -> None:
    """The run under every method's name and seed."""
    there = run.identity()
    assert there is not None
    for method in METHODS:
        for seed in range(SEEDS):
            copy = Run(folder / f"{there.task}-{method}-{seed}")
            shutil.copytree(run.path, copy.path, ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
            row = {**there.row, "method": {**there.row["method"], "name": method}}
            identity = dataclasses.replace(there, row=row, seed=seed)
            rewrite(copy, identity, method)


def rewrite(copy: Run, identity: Identity, method: str) -> None:
    """Let a copied run be another one."""

    def changed(record: Record) -> Record:
        return dataclasses.replace(record, method=method, seed=identity.seed, identity=identity.key)

    records, measures = copy.records(), copy.measures()
    copy.record_path.unlink()
    copy.measures_path.unlink()
    copy.append(map(changed, records))
    copy.append_measures(map(changed, measures))
    copy.identity_path.write_text(identity.to_json())


def opening(page: Path, browser: str, tries: int = 5) -> float:
    """Median seconds from the start of navigation to the end of loading, as the browser says."""
    harness = page.with_name("harness.html")
    script = (
        "const frame = document.querySelector('iframe');"
        "frame.addEventListener('load', () => setTimeout(() => {"
        "const [seen] = frame.contentWindow.performance.getEntriesByType('navigation');"
        "document.title = 'loaded ' + seen.loadEventEnd; }, 0));"
    )
    frame = f'<iframe src="{page.name}" style="width:1280px;height:900px"></iframe>'
    harness.write_text(f"<!doctype html><title></title>{frame}<script>{script}</script>")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files", "--timeout=20000")
    flags += ("--disable-background-networking", "--no-first-run", f"--user-data-dir={page.with_name('profile')}")
    found = []
    for _ in range(tries):
        command = [browser, *flags, "--dump-dom", harness.as_uri()]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        loaded = re.search(r"loaded ([0-9.]+)", text)
        assert loaded is not None, text[:500]
        found.append(float(loaded[1]) / 1000)
    return round(float(np.median(found)), 3)


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    found: dict[str, object] = {"machine": describe("cpu"), "runs": len(TRAIN) * len(METHODS) * SEEDS}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        for program, arguments in TRAIN.items():
            run = Run(root / program)
            call(f"{program}-train", *arguments, f"run_dir={run.path}")
            call(f"{program}-evaluate", f"run={run.path}", "experiment=quick", *JUDGE[program])
            copies(run, root / "runs")
        started = time.perf_counter()
        call("kd-report", str(root / "runs"), "--out", str(root / "report"))
        found["seconds to write"] = round(time.perf_counter() - started, 2)
        page = root / "report" / "report.html"
        found["megabytes"] = round(page.stat().st_size / 1e6, 2)
        browser = shutil.which("chromium")
        found["seconds to open"] = None if browser is None else opening(page, browser)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
