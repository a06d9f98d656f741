"""Compiles the steps of training and evaluation ahead of time: several at once, and equal ones once."""

import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import jax

from flax_agnews.system.machine import cores
from flax_agnews.training.parallel import Devices

_MOST_AT_ONCE = 8  # programs: each takes up to a gigabyte of memory while it is compiled


def compiles_ahead(setting: Literal["auto", "on", "off"], platform: str, cores: int) -> bool:
    """Whether the next strategy is compiled while one trains.

    Training on a CPU uses all cores; training on a GPU or TPU leaves them free, but for one that feeds the device.

    Args:
        setting: `parallel.compile_ahead`.
        platform: kind of device that trains: cpu, gpu or tpu.
        cores: number of processor cores; one is never enough.
    """
    return cores > 1 and (setting == "on" or (setting == "auto" and platform != "cpu"))


class Compiled:
    """A compiled function, or one that is still being compiled: the first call, or `wait`, waits for it.

    Attributes:
        result: shapes of the function's results, as arguments of another function on the same devices.
    """

    def __init__(
        self,
        future: "Future[Callable[..., Any]]",
        result: Any,
        elsewhere: "Callable[[Devices], Future[Callable[..., Any]]]",
    ) -> None:
        self._future, self.result, self._elsewhere = future, result, elsewhere
        self._others: dict[Devices, Compiled] = {}
        self._lock = threading.Lock()

    def on(self, devices: Devices) -> "Compiled":
        """The same function on another device beside those that it was compiled for (`Devices.apart`), begun once."""
        with self._lock:
            if devices not in self._others:
                result = devices.like_there(self.result)
                self._others[devices] = Compiled(self._elsewhere(devices), result, self._elsewhere)
            return self._others[devices]

    def __call__(self, *arguments: Any) -> Any:
        """Calls the function."""
        return self._future.result()(*arguments)

    @property
    def ready(self) -> bool:
        """Whether the compiler has finished."""
        return self._future.done()

    def wait(self) -> Any:
        """The compiled function itself; raises the error that the compiler raised."""
        return self._future.result()


class Compiler:
    """Compiles functions for some devices, several at once: much of XLA's compiler runs on one core.

    A function that was compiled before, in this experiment, isn't compiled again.

    Args:
        devices: the devices that run the functions.
        at_once: number of programs to compile at once; by default one for each core. One where devices of other
            processes take part, which all have to compile in the same order.
    """

    def __init__(self, devices: Devices, at_once: int | None = None) -> None:
        workers = 1 if devices.several else at_once or min(cores(), _MOST_AT_ONCE)
        self.devices = devices
        self._pool = ThreadPoolExecutor(workers, "compiler")
        self._known: dict[Hashable, Compiled] = {}

    def works_ahead(self, setting: Literal["auto", "on", "off"]) -> bool:
        """Whether the next strategy is compiled while one trains; see `compiles_ahead`."""
        return compiles_ahead(setting, self.devices.platform, cores())

    def __call__(
        self,
        function: Callable[..., Any],
        *examples: Any,
        donate: bool = False,
        chained: bool = False,
        same: Hashable = None,
        like: Any = None,
    ) -> Compiled:
        """Begins to compile a function; it is traced before this returns.

        Args:
            function, examples, donate, chained, like: as in `Devices.lower`.
            same: equal for functions that compute the same, which are compiled once for each structure of arguments;
                None if nothing is known.
        """
        key = self._key(same, examples, donate)
        found = None if key is None else self._known.get(key)
        if found is None:
            others = self.devices.beside
            lower = self.devices.lower_for_each if others else self.devices.lower
            lowered = lower(function, *examples, donate=donate, chained=chained, like=like)

            def begin(devices: Devices) -> "Future[Callable[..., Any]]":
                where = {"device_assignment": devices.devices} if others else {}
                return self._pool.submit(lowered.compile, devices.options, **where)

            found = Compiled(begin(self.devices), self.devices.like_result(lowered.out_info, like), begin)
            if key is not None:
                self._known[key] = found
        return found

    @staticmethod
    def _key(same: Hashable, examples: Any, donate: bool) -> Hashable:
        """What two programs must have in common to be one; None if `same` is None or can't be compared."""
        leaves, structure = jax.tree.flatten(examples)
        key = (same, donate, structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves))
        try:
            return None if same is None or not hash(key) else key
        except TypeError:  # a user's module with an attribute that has no hash
            return None
