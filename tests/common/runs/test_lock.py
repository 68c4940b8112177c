"""One process at a time in a run's folder."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.errors import InputError
from common.runs.lock import Lock

HOLD = """
import sys, time
from pathlib import Path
from common.runs.lock import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock of ``tmp_path``."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_by_name_and_a_dead_ones_lock_is_taken_over(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(InputError, match=f"run_dir={tmp_path} is in use by process {holder.pid} on ") as caught:
        Lock(tmp_path / "lock").__enter__()
    assert "\n" not in str(caught.value)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with Lock(tmp_path / "lock"):
        assert str(os.getpid()) in (tmp_path / "lock").read_text()


def test_it_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with Lock(tmp_path / "lock"), pytest.raises(InputError, match=str(os.getpid())):
            Lock(tmp_path / "lock").__enter__()


def test_the_lock_of_a_folder_that_was_moved_aside_is_not_that_of_the_new_one(tmp_path: Path) -> None:
    folder, aside = tmp_path / "run", tmp_path / "aside"
    folder.mkdir()
    with Lock(folder / "lock"):
        folder.rename(aside)
        folder.mkdir()
        with Lock(folder / "lock"), pytest.raises(InputError):
            Lock(aside / "lock").__enter__()


@pytest.mark.parametrize("content", ["", "[]", '{"pid": "x"}', '{"pid": 1}', "\x00" * 3000])
def test_whatever_its_file_says_it_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    with Lock(tmp_path / "lock"):
        (tmp_path / "lock").write_text(content)
        with pytest.raises(InputError, match="in use by another process"):
            Lock(tmp_path / "lock").__enter__()
