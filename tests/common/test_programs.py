"""Help comes without what a program needs to do its work."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = (
    *("kdrl-train", "kdrl-evaluate", "kdrl-play", "kdrl-export"),
    *("kdseg-train", "kdseg-evaluate", "kdseg-predict", "kdseg-export", "kdseg-check"),
)
HEAVY = {"torch", "stable_baselines3", "pytorch_lightning", "matplotlib"}


def start(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program's entry point and name the heavy modules that it has loaded."""
    place, function = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"][program].split(":")
    code = f"""
import sys
sys.argv = {[program, *arguments]!r}
from {place} import {function}
try:
    {function}()
finally:
    print("loaded:", *sorted({HEAVY!r} & sys.modules.keys()))
"""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("program", PROGRAMS)
def test_help_is_light(program: str) -> None:
    done = start(program, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{program} is powered by Hydra.") and "== Config ==" in done.stdout
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_help_with_overrides_shows_them() -> None:
    assert "seed: 7" in start("kdrl-train", "seed=7", "-h").stdout


def test_what_cannot_be_composed_is_one_line() -> None:
    done = start("kdrl-train", "--help", "method=foo")
    assert done.returncode == 2
    assert done.stderr.startswith("error: method=foo is not known; use one of: ai_kd, ")


def test_the_report_is_light() -> None:
    done = start("kd-report", "nowhere", "--resamples", "1")
    assert (done.returncode, done.stderr[:7]) == (2, "error: ")
    assert not {"torch", "stable_baselines3"} & set(done.stdout.splitlines()[-1].split())
