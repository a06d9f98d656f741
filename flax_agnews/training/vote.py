"""Agreement of all processes on whether to stop after an update."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np

from flax_agnews.training.parallel import Devices
from flax_agnews.training.step import AXIS


class Vote:
    """Lets all processes know, at the same update, of a signal that any of them got. Making one is a collective.

    Args:
        devices: of all processes.
    """

    def __init__(self, devices: Devices) -> None:
        self._devices, self._last = devices, None
        self._most = devices.compile(
            lambda nothing, neither, heard: jax.lax.pmax(heard, AXIS), (), (), self._placed(0), donate=False
        )
        devices.team.meet()
        with _muted():
            self(0, now=True)

    def __call__(self, heard: int, now: bool = False) -> int:
        """The largest number that any process had heard at the call before this one; of this one if `now`.

        All processes have to call it. It starts a sum over the devices, and reads the one before it, which was over
        when the last update was.
        """
        before = self._last
        self._last = self._devices.first(self._most((), (), self._placed(heard)))
        read = self._last if now else before
        return 0 if read is None else int(read)

    def _placed(self, heard: int) -> Any:
        return self._devices.batch(np.full(len(self._devices), heard, np.int32))


@contextmanager
def _muted() -> Iterator[None]:
    """Hides standard output, on which gloo reports its first connection to each device without asking Python."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
