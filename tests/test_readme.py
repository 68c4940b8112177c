"""Every example of the README runs: the scripts as they are, the command lines with smaller budgets."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import readme
from tests.examples import PROGRAMS, lines_of, run_lines, scripts_of

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
SCRIPTS, LINES = scripts_of(README), lines_of(README)


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
    run_lines(LINES, monkeypatch)
    page = (workplace / "report" / "report.html").read_text()
    assert "starpilot/themed" in page
    assert "purple_on_white" in page


def test_measured_results_are_those_of_the_committed_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["readme.py", "--check"])
    assert readme.main() == 0
