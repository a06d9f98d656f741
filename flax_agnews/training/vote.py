"""Makes all processes agree on the update after which they stop."""

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
    """Tells all processes, at the same update, of a signal that any of them got. Its constructor is a collective.

    Args:
        devices: the devices of all processes.
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
        """The largest `heard` of any process in the previous call, or in this call if `now`. A collective.

        Starts a maximum over the devices, and reads the previous one, which has finished with the last update, so that
        training doesn't wait.
        """
        before = self._last
        self._last = self._devices.first(self._most((), (), self._placed(heard)))
        read = self._last if now else before
        return 0 if read is None else int(read)

    def _placed(self, heard: int) -> Any:
        return self._devices.batch(np.full(len(self._devices), heard, np.int32))


@contextmanager
def _muted() -> Iterator[None]:
    """Hides standard output, on which gloo (not through Python) reports its first connection to each device."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
