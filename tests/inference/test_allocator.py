from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys

import numpy as np

from xlsbc.inference.allocator import tune_allocator

if "tuned" in sys.argv:
    tune_allocator()
for i in range(12):
    if i == 2:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**22)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="needs Linux with glibc"
)
def test_blocks_that_were_freed_are_used_again_without_page_faults():
    def faults(*arguments: str) -> int:
        command = [sys.executable, "-c", FAULTS, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    pages = 10 * 2**25 // 2**12  # of ten blocks, 4 KiB each; fewer where pages are huge
    assert faults("tuned") < pages // 100
    assert faults("tuned") < faults() // 4
