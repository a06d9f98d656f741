"""Freed memory stays in the process, and a run's peak memory is its own."""

import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="glibc and /proc are Linux's")

# 64 MiB is above every threshold of glibc's own: without `keep_freed` each round maps and faults the block in anew.
FAULTS = """
import resource, sys
import numpy as np
from flax_agnews.training.memory import keep_freed
if sys.argv[1] == "keep":
    assert keep_freed()
np.ones(1 << 23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(1 << 23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

PEAKS = """
import numpy as np
from flax_agnews.training.memory import peak_bytes, reset_peak
block = np.ones(1 << 25)  # 256 MiB
high = peak_bytes([])
del block
reset_peak()
low = peak_bytes([])
print(high, low)
"""


def _run(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_freed_memory_is_not_faulted_in_again():
    (usual,), (kept,) = _run(FAULTS, "usual"), _run(FAULTS, "keep")
    # Pages may be large or small here, so only the ratio counts: ten rounds against next to none.
    assert usual > 100
    assert kept < usual / 5


def test_the_peak_is_counted_anew_after_a_reset():
    high, low = _run(PEAKS)
    assert high - low > 200 << 20  # of the 256 MiB that were freed
