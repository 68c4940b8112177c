"""Both tasks, plain and distilled, judged side by side: what ``make demo`` runs.

Policies are trained in one process and segmentation networks in another, each on one core, through the
same command lines a user types. The budget is a laptop's; the page says so. Either student's teacher knows more than
it: the policy's had four times its steps, and the network's masks of three stains where the student has those of one,
and images alone of the other two.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from benchmarks.effect.images import hide_masks

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SEEDS = "0,1,2"
RUNS = 1 + 2 * 3  # a teacher, then two methods times three seeds


def commands(program: str, experiment: str, folder: Path, teacher: list[str], students: list[str]) -> list[list[str]]:
    """A teacher, then plain and distilled training over seeds."""
    base = [str(BIN / program), f"experiment={experiment}"]
    kept = f"{folder.parent.parent}/teachers/{folder.name}"
    sweep = [
        f"run_dir={folder}/${{method.name}}-${{seed}}",
        f"hydra.sweep.dir={folder.parent.parent}/sweeps/{folder.name}",
    ]
    return [
        [*base, "seed=100", "method=erm", f"run_dir={kept}", *teacher],
        [
            base[0],
            "--multirun",
            *base[1:],
            "method=erm,kddg_sdd",
            f"seed={SEEDS}",
            f"teacher={kept}",
            *sweep,
            *students,
        ],
    ]


def one_labelled(folder: Path) -> Path:
    """The packaged nuclei with masks of fluorescence and of the held-out stain alone."""
    shutil.copytree(ROOT / "tests" / "data" / "nuclei", folder)
    hide_masks(folder, ["grey_brightfield", "purple_on_purple"])
    return folder


def main() -> int:
    """Run the demo into ``runs/demo-<time>`` and show where the page is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / time.strftime("demo-%Y%m%d-%H%M%S"))
    out = parser.parse_args().out.resolve()
    console = Console()
    console.print(f"[bold]kdshift demo[/bold]: 3 seeds x 2 methods x 2 tasks, 5 to 15 minutes, into {out}")
    # One thread each: two processes on two cores, neither waiting for the other.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    queues = {
        "policies (CoinRun)": commands(
            "kdrl-train", "demo_policy", out / "runs" / "coinrun", ["total_timesteps=98304", "evaluation.every=0"], []
        ),
        "segmentation (nuclei)": commands(
            "kdseg-train",
            "demo_segmentation",
            out / "runs" / "nuclei",
            [],
            [f"data.root={one_labelled(out / 'data')}", "data.unlabelled=true"],
        ),
    }
    started = time.perf_counter()
    failed = follow(console, queues, out, environment)
    if failed:
        console.print(f"[red]{failed} failed[/red]; its output is {out / (slug(failed) + '.log')}")
        return 1
    report = [str(BIN / "kd-report"), *(str(path) for path in sorted((out / "runs").iterdir()))]
    code = subprocess.run([*report, "--out", str(out / "report")], check=False).returncode
    console.print(f"{time.perf_counter() - started:.0f} s in all; open {out / 'report' / 'report.html'}")
    return code


def slug(name: str) -> str:
    """A file name for a queue's output."""
    return name.split(" ")[0]


def follow(console: Console, queues: dict[str, list[list[str]]], out: Path, environment: dict[str, str]) -> str | None:
    """Run each queue's commands one after the other, the queues side by side; the name of one that failed."""
    out.mkdir(parents=True, exist_ok=True)
    running: dict[str, subprocess.Popen[bytes]] = {}
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars = {name: progress.add_task(name, total=RUNS) for name in queues}
        waiting = {name: list(steps) for name, steps in queues.items()}
        while waiting or running:
            for name in list(waiting):
                if name in running and running[name].poll() is None:
                    continue
                if name in running and running.pop(name).returncode:
                    for other in running.values():
                        other.terminate()
                    return name
                if not waiting[name]:
                    del waiting[name]
                    continue
                with (out / f"{slug(name)}.log").open("ab") as log:
                    step = waiting[name].pop(0)
                    running[name] = subprocess.Popen(step, cwd=ROOT, stdout=log, stderr=log, env=environment)
            for name, bar in bars.items():
                progress.update(bar, completed=(out / f"{slug(name)}.log").read_bytes().count(b"; testing"))
            time.sleep(0.5)
    return None


if __name__ == "__main__":
    sys.exit(main())
