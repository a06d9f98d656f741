"""Circumstances that change a run's last digits are named: another machine, device count or number of cores."""

import os
import subprocess
import sys

import pytest

from flax_agnews.training.exactness import circumstances, inexact
from flax_agnews.training.parallel import Devices


def test_other_circumstances_are_named() -> None:
    here = circumstances(Devices("jit", tuple(__import__("jax").local_devices()[:1])))
    assert inexact(here, here) is None
    assert here["cores"] == str(len(os.sched_getaffinity(0)))
    other = inexact({**here, "cores": "96", "jax": "0.1"}, here)
    assert other is not None
    assert "cores 96, now" in other
    assert "jax 0.1, now" in other
    assert "jaxlib" not in other


def test_a_process_on_fewer_cores_is_another_circumstance() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("one core alone")
    code = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        "import jax; from flax_agnews.training.exactness import circumstances as c;"
        "from flax_agnews.training.parallel import Devices; print(c(Devices('jit', jax.local_devices()[:1]))['cores'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "1"
