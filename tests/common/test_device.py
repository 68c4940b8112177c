"""Memory that a process frees is its own to use again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from common.device import keep_freed_memory
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = lambda: [torch.zeros(9 * 2**20).add_(1) for _ in range(2)]  # of 36 MiB
def counted():
    for _ in range(3):
        blocks()
    before = faults()
    for _ in range(8):
        blocks()
    return faults() - before
print(counted())
keep_freed_memory()
print(counted())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked")
def test_freed_memory_is_kept() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, check=True)
    counts = [int(line) for line in done.stdout.splitlines()]
    assert counts[0] > 1000 and counts[1] < counts[0] / 2
