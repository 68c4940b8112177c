"""Whatever a run's folder holds, the report goes on with the others and names it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from common.report.main import main
from common.report.results import collect
from common.runs.folder import Run
from tests.common.report.mutations import FILES, NAMES, Mutation, reseeded

# More than a few are for running by hand: FUZZ_BATCHES=10 pytest tests/common/report/test_fuzz.py
BATCHES = int(os.environ.get("FUZZ_BATCHES", "1"))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, write: SimpleNamespace) -> Path:
    """Runs that are as they should be: of two tasks, two methods, two seeds."""
    runs = tmp_path_factory.mktemp("sound")
    for method in ("erm", "kd"):
        for seed in range(2):
            both = (("last", 1.0), ("averaged", 0.8))
            path = runs / f"seg-{method}-{seed}"
            write.identified(write.segmentation_run(path, method, seed, images=4, selections=both))
            write.identified(write.policy_run(runs / f"rl-{method}-{seed}", method, seed, 0.7, episodes=6))
    return runs


@pytest.mark.parametrize(("mutations", "count"), [(FILES, 200), (NAMES, 6)], ids=["files", "names"])
@pytest.mark.parametrize("batch", range(BATCHES))
def test_no_folder_keeps_the_report_from_being_made(
    batch: int,
    mutations: Sequence[Mutation],
    count: int,
    sound: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000000")  # no line is broken
    rng = np.random.default_rng([batch, count])
    shutil.copytree(sound, "runs/sound")
    names = sorted(path.name for path in sound.iterdir())
    changed = []
    for number in range(count):
        mutation = mutations[number % len(mutations)]
        name = names[rng.integers(len(names))]
        changed.append(Path(f"runs/{number}-{mutation.__name__}"))
        shutil.copytree(sound / name, changed[-1])
        mutation(reseeded(Run(changed[-1]), 100 + number), rng)
    main(["runs", "--resamples", "100"])
    printed = capsys.readouterr().out
    used = {result.path for result in collect(["runs"]).results}
    assert set(Path("runs/sound").iterdir()) <= used
    passed_over = [path for path in changed if path not in used and any(path.iterdir())]
    assert [path for path in passed_over if not named(path, printed)] == []
    assert all(character.isprintable() or character in "\n" for character in printed)


def named(path: Path, printed: str) -> bool:
    return any(line.startswith("skipped: ") and str(path) in line for line in printed.splitlines())
