"""What a trainer on a CPU asks of the C library."""

import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource
import torch
from edco_rl.trainers.memory import keep_freed_memory

if {kept}:
    keep_freed_memory()
for repetition in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16, 2**20)  # 64 MiB
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_memory_that_is_freed_is_used_again():
    """Its pages in place of new ones, each of which costs a fault (32 for 64 MiB where pages are huge)."""
    faults = [
        int(subprocess.run([sys.executable, "-c", COUNT_FAULTS.format(kept=kept)], capture_output=True).stdout)
        for kept in (True, False)
    ]
    assert faults[0] < 10 < faults[1]
