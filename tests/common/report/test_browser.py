"""The page in a real browser, where there is one: Debian's chromium."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from common.report.main import main as report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files"),
    *("--hide-scrollbars", "--enable-logging=stderr"),
)
# The page in a frame as wide as a device, for a window cannot be as narrow as a phone; what a script finds out there.
HARNESS = """<!doctype html><body style="margin:0">
<iframe {sandbox} src="report.html" style="border:0;width:{width}px;height:{height}px">
</iframe><pre id="found"></pre><script>
document.querySelector("iframe").addEventListener("load", (event) => {{
  const page = event.target.contentDocument, view = event.target.contentWindow;
  const found = (() => {{ {script} }})();
  document.getElementById("found").textContent = JSON.stringify(found);
}});
</script></body>"""
WIDTHS = (360, 768, 1280)

Call = Callable[..., Any]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")


@pytest.fixture(scope="module")
def folder(call: Call, write: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("page")
    write.segmentation_runs(path / "runs")
    write.policy_runs(path / "runs")
    assert call(report, str(path / "runs"), "--out", str(path / "report")).status == 0
    return path / "report"


def browse(address: Path, *more: str) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    profile = f"--user-data-dir={address.parent / 'profile'}"
    command = [CHROMIUM, *FLAGS, profile, *more, address.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done


def look(folder: Path, script: str, width: int = 1280, *more: str, sandbox: str = "") -> Any:
    """What a script finds in the page, which it knows as ``page`` in ``view``; nothing may be told on the console."""
    harness = folder / f"harness-{width}{sandbox and '-sandbox'}.html"
    harness.write_text(HARNESS.format(width=width, height=900, script=script, sandbox=sandbox))
    done = browse(harness, "--dump-dom", "--virtual-time-budget=10000", *more)
    told = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert [line for line in told if not sandbox or "Blocked script execution" not in line] == []
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found is not None and found[1]
    return json.loads(html.unescape(found[1]))


@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits(folder: Path, width: int) -> None:
    """Nothing sticks out of the page, and every picture is there; tables and wide figures scroll in their own boxes."""
    found = look(
        folder,
        """return {
          wide: page.documentElement.scrollWidth, room: page.documentElement.clientWidth,
          broken: [...page.images].filter((image) => !image.naturalWidth).length,
          pictures: page.images.length + page.querySelectorAll("svg").length,
          small: [...page.querySelectorAll("p, td, th")].filter(
            (one) => parseFloat(view.getComputedStyle(one).fontSize) < 11).length,
        };""",
        width,
    )
    assert found["wide"] <= found["room"] == width
    assert found["broken"] == found["small"] == 0
    assert found["pictures"] > 3
    screenshot = folder / f"{width}.png"
    browse(folder / f"harness-{width}.html", f"--screenshot={screenshot}", f"--window-size={max(width, 500)},900")
    assert len(np.unique(np.asarray(Image.open(screenshot).convert("L")))) > 30


def test_headings_sort(folder: Path) -> None:
    """Also from the keyboard: each is a button, and says which way."""
    found = look(
        folder,
        """const table = page.querySelector("table"), number = 1;
        const column = () => [...table.tBodies[0].rows].map((row) => row.cells[number].textContent.trim());
        const button = table.tHead.rows[0].cells[number].querySelector("button"), seen = [column()], said = [];
        button.focus();
        for (const time of [1, 2]) {
          page.activeElement.click();
          seen.push(column());
          said.push(table.tHead.rows[0].cells[number].ariaSort);
        }
        return {seen, said};""",
    )
    before, first, second = found["seen"]
    assert sorted(before) == sorted(first) and first == second[::-1]
    assert found["said"] == ["descending", "ascending"]


def test_it_reads_the_same_without_scripts(folder: Path) -> None:
    script = """return {
      buttons: page.querySelectorAll("button").length, height: page.documentElement.scrollHeight,
      text: page.body.textContent,
    };"""
    found, without = look(folder, script), look(folder, script, sandbox="sandbox='allow-same-origin'")
    assert found.pop("buttons") > 0 and without.pop("buttons") == 0
    assert without == found


def test_dark_mode_and_print(folder: Path) -> None:
    script = """const style = view.getComputedStyle(page.body);
      const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + Number(part), 0);
      return [light(style.backgroundColor), light(style.color)];"""
    paper, ink = look(folder, script)
    assert paper > 600 and ink < 300
    paper, ink = look(folder, script, 1280, "--blink-settings=preferredColorScheme=0")
    assert paper < 300 and ink > 450
    browse(folder / "report.html", f"--print-to-pdf={folder / 'page.pdf'}")
    pages = len(re.findall(rb"/Type\s*/Page\b", (folder / "page.pdf").read_bytes()))
    assert pages >= 2
