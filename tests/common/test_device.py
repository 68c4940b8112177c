"""Memory that a process frees is its own to use again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from common.device import keep_freed_memory
if {kept}:
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks = lambda: [torch.zeros(2**24).add_(1) for _ in range(2)]  # of 64 MiB
for _ in range(3):
    blocks()
before = faults()
for _ in range(8):
    blocks()
print(faults() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is asked")
def test_freed_memory_is_kept() -> None:
    counts = [
        int(subprocess.run([sys.executable, "-c", FAULTS.format(kept=kept)], capture_output=True, check=True).stdout)
        for kept in (False, True)
    ]
    assert counts[0] > 1000 and counts[1] < counts[0] / 2
