"""What runs the examples of README and docs: the scripts as they are, the command lines with smaller budgets."""

import re
import shlex
import sys
from collections.abc import Callable, Sequence

import pytest
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
# StarPilot's episodes are short; CoinRun's may last a thousand steps.
SMALLER = {
    "kdrl-train": "env.game=starpilot env.num_envs=4 ppo.n_steps=16 ppo.batch_size=32 total_timesteps=64 "
    "evaluation.episodes=4 evaluation.looks=[themed] evaluation.every=0 logger=[csv]",
    "kdrl-evaluate": "episodes=4 num_envs=4 looks=[themed] most=2",
    "kdseg-train": "trainer.max_steps=2 evaluation.every=0 data.batch_size=2 network.encoder_name=tu-test_resnet",
    "kdrl-play": "most=2",
    "kdrl-export": "onnx=false",
    "kdseg-export": "onnx=false",
    "kdseg-check": "",
    "kdseg-evaluate": "most=1",
    "kdseg-predict": "",
    "kd-report": "",
}


def scripts_of(page: str) -> list[str]:
    """Its blocks of Python."""
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


def lines_of(page: str) -> list[str]:
    """The command lines of its blocks that call one of the programs."""
    blocks = re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("kd")]


def run_lines(lines: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each, with what makes it short, as a user types it."""
    for line in lines:
        program, *arguments = shlex.split(line.replace("seed=0,1", "seed=0"), comments=True)
        if arguments == ["--help"]:
            continue
        monkeypatch.setattr(sys, "argv", [program, *arguments, *SMALLER[program].split()])
        GlobalHydra.instance().clear()
        assert not PROGRAMS[program](), line
