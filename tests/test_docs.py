"""The documentation: its examples run, and it leaves no method out; ``make docs`` sees that it builds."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from benchmarks import site
from tests.examples import lines_of, run_lines, scripts_of

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
WITH_SCRIPTS = [page for page in PAGES if scripts_of(page.read_text())]
TUTORIALS = sorted((DOCS / "tutorials").glob("*.md"))
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))


def name(path: Path) -> str:
    return path.stem


@pytest.mark.parametrize("page", WITH_SCRIPTS, ids=name)
@pytest.mark.filterwarnings("ignore")  # Lightning's advice, which a user also gets
def test_scripts_run_as_they_stand(page: Path, workplace: Path) -> None:
    torch.manual_seed(0)
    for script in scripts_of(page.read_text()):
        exec(compile(script, page.name, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", TUTORIALS, ids=name)
@pytest.mark.filterwarnings("ignore")
def test_tutorials_run_in_order(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(page.read_text())
    assert len(lines) >= 4
    run_lines(lines, monkeypatch)


def test_tutorials_do_not_write_into_each_others_folders() -> None:
    folders = {page: set(re.findall(r"runs/(\w+)", page.read_text())) for page in TUTORIALS}
    every = [folder for found in folders.values() for folder in found]
    assert every and len(every) == len(set(every))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
@pytest.mark.filterwarnings("ignore")
def test_notebooks_run(path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPS", {"segmentation": "2", "policy": "512"}[path.stem])
    monkeypatch.setenv("MPLBACKEND", "agg")
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert not any(cell["outputs"] for cell in cells)  # kept out of the repository
    names: dict[str, object] = {"__name__": "__main__"}
    for cell in cells:
        exec(compile("".join(cell["source"]), path.name, "exec"), names)


def test_no_method_is_left_out() -> None:
    pages = "".join(page.read_text() for page in (DOCS / "methods").glob("*.md"))
    for method in sorted(path.stem for path in (ROOT / "configs" / "method").glob("*.yaml")):
        assert method == "erm" or f"{method} " in pages or f"{method}`" in pages, method


def test_numbers_of_methods_are_those_of_the_grids() -> None:
    found = site.found(["kd"])
    digits = next(
        line for line in (ROOT / "benchmarks/digits/results.md").read_text().splitlines() if line.startswith("| kd |")
    )
    assert digits.split("|")[5].strip() in found
    assert "segmentation" in found and "CoinRun" in found
    assert site.found(["nothing"]).startswith("No committed grid")


def test_a_line_that_asks_for_what_was_found_is_never_left_in_a_page() -> None:
    page = SimpleNamespace(file=SimpleNamespace(src_uri="methods/kd.md"))
    assert "<!--" not in site.on_page_markdown("<!-- found: kd -->", page)
    with pytest.raises(ValueError, match=r"methods/kd\.md: what a line"):
        site.on_page_markdown("<!-- found: KD -->", page)
