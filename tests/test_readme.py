"""Every example of the README runs: the scripts as they are, the command lines with smaller budgets."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

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

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SCRIPTS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
LINES = [
    line
    for block in re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)
    for line in block.splitlines()
    if line.startswith("kd")
]
PROGRAMS: dict[str, Callable[[], object]] = {
    "kdrl-train": kdrl.train.main,
    "kdrl-evaluate": kdrl.evaluate.main,
    "kdrl-play": kdrl.play.main,
    "kdrl-export": kdrl.export.main,
    "kdseg-check": kdseg.check.main,
    "kdseg-train": kdseg.train.main,
    "kdseg-evaluate": kdseg.evaluate.main,
    "kdseg-predict": kdseg.predict.main,
    "kdseg-export": kdseg.export.main,
    "kd-report": common.report.main.main,
}
# Starpilot's episodes are short; CoinRun's may last a thousand steps.
SMALLER = {
    "kdrl-train": "env.game=starpilot env.num_envs=4 ppo.n_steps=16 ppo.batch_size=32 total_timesteps=64 "
    "evaluation.episodes=4 evaluation.looks=[themed] evaluation.every=0",
    "kdrl-evaluate": "episodes=4 num_envs=4 looks=[themed] most=2",
    "kdseg-train": "trainer.max_steps=2 evaluation.every=0 data.batch_size=2",
    "kdrl-play": "most=2",
    "kdrl-export": "onnx=false",
    "kdseg-export": "onnx=false",
    "kdseg-check": "",
    "kdseg-evaluate": "most=1",
    "kdseg-predict": "",
    "kd-report": "",
}
PREPARED = "method.terms.augkd.preparation.data_free_rounds=2 method.terms.augkd.preparation.anchor_rounds=2"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that looks like a checkout, as far as the examples reach into one."""
    (tmp_path / "tests").mkdir()
    os.symlink(ROOT / "tests" / "data", tmp_path / "tests" / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("script", SCRIPTS, ids=["policy", "segmentation"])
@pytest.mark.filterwarnings("ignore")  # Lightning's advice, which a user also gets
def test_scripts_run_as_they_stand(script: str, workplace: Path) -> None:
    torch.manual_seed(0)
    names: dict[str, object] = {}
    exec(compile(script, "README.md", "exec"), names)
    assert "method" in names or "module" in names


@pytest.mark.parametrize("script", SCRIPTS, ids=["policy", "segmentation"])
def test_scripts_need_few_imports_from_here(script: str) -> None:
    lines = re.findall(r"^(?:from|import) (common|kdrl|kdseg)\b", script, flags=re.MULTILINE)
    assert 1 <= len(lines) <= 2 and "common" not in lines


def test_command_lines_run_in_order_and_end_in_a_report(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {shlex.split(line)[0] for line in LINES} == set(PROGRAMS)
    for line in LINES:
        program, *arguments = shlex.split(line, comments=True)
        if arguments == ["--help"]:
            continue
        smaller = SMALLER[program] + (f" {PREPARED}" if "method=augkd" in arguments else "")
        monkeypatch.setattr(sys, "argv", [program, *arguments, *smaller.split()])
        GlobalHydra.instance().clear()
        assert not PROGRAMS[program](), line
    page = (workplace / "report" / "report.html").read_text()
    assert "starpilot/themed" in page
    assert "purple_on_white" in page


def test_measured_results_are_those_of_the_committed_data() -> None:
    assert subprocess.run([sys.executable, ROOT / "benchmarks" / "readme.py", "--check"], check=False).returncode == 0
