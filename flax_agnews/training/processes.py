"""Several processes that train as one: how they find each other, agree, and learn that one is lost.

Each runs the same command on the same settings and texts, and has its part of every batch; only the first writes. In
one process nothing here waits for anybody. The only file besides parallel.py that knows of several.
"""

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the store of keys and values, through which processes agree, has no public name

from flax_agnews.config import ParallelConfig
from flax_agnews.errors import Lost, UserError, first_line, flag, listed
from flax_agnews.training.parallel import Devices
from flax_agnews.training.step import AXIS

T = TypeVar("T")

_HEARTBEAT_SECONDS = 60  # silence after which JAX takes a process for dead, and ends the others
_MEETING_SECONDS = 600  # longest wait for a process that lives, such as one that downloads or saves; at the end too
_LOST = re.compile("gloo|nccl|coordination|peer|connection|unavailable|deadline", re.IGNORECASE)
_turn = 0  # meetings so far, the same in every process


def start(config: ParallelConfig) -> None:
    """Joins the other processes, where the settings name any; to be called before JAX looks for devices.

    Raises:
        UserError: settings that don't go together. Where the processes don't find each other within
            `parallel.start_seconds`, that is said, and this one exits with 2.
    """
    _check(config)
    if config.coordinator is None or jax.distributed.is_initialized():
        return
    if config.process == 0 and config.coordinator != "auto":
        _check_port(config.coordinator)
    found = None if config.coordinator == "auto" else config.coordinator
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM, which is `Interrupt`'s
    timer = threading.Timer(config.start_seconds, _give_up, [config])  # JAX, out of patience, aborts without a word
    timer.daemon = True
    timer.start()
    try:
        jax.distributed.initialize(
            coordinator_address=found,
            num_processes=config.processes,
            process_id=config.process,
            cluster_detection_method="deactivate" if found else None,
            initialization_timeout=config.start_seconds + 60,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=_MEETING_SECONDS,
        )
    except (RuntimeError, ValueError, TypeError, OSError) as error:
        reason = first_line(error) if found else f"JAX finds no other processes here ({first_line(error)})"
        raise UserError(f"{flag('parallel.coordinator')} {config.coordinator}: {reason}") from error
    finally:
        timer.cancel()


def _give_up(config: ParallelConfig) -> None:
    print(
        f"error: --parallel.coordinator {config.coordinator}: the processes didn't find each other within "
        f"{config.start_seconds} s. Start {config.processes or 'all'} of them, numbered from 0, with an address of the "
        "first that all can reach, or raise --parallel.start_seconds",
        file=sys.stderr,
    )
    sys.stderr.flush()
    os._exit(2)


def _check(config: ParallelConfig) -> None:
    """Settings that need each other."""
    count, number = config.processes, config.process
    if config.coordinator is None:
        for name, value in (("processes", count), ("process", number)):
            if value is not None:
                raise UserError(
                    f"{flag(f'parallel.{name}')} {value}: needs {flag('parallel.coordinator')}, HOST:PORT of the first"
                )
    elif config.coordinator != "auto":
        place = re.fullmatch(r".+:(\d{1,5})", config.coordinator)
        if not place or not 0 < int(place.group(1)) < 2**16:
            raise UserError(
                f"{flag('parallel.coordinator')} {config.coordinator}: must be HOST:PORT of the first, or auto"
            )
        if count is None or number is None:
            raise UserError(
                f"{flag('parallel.coordinator')} {config.coordinator}: needs {flag('parallel.processes')}, how many "
                f"there are, and {flag('parallel.process')}, which of them this is"
            )
    if count is not None and number is not None and number >= count:
        raise UserError(
            f"{flag('parallel.process')} {number}: must be 0 to {count - 1}, of {flag('parallel.processes')} {count}"
        )


def _check_port(coordinator: str) -> None:
    """Where another program listens, JAX would crash."""
    port, both = int(coordinator.rsplit(":", 1)[1]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise UserError(
            f"{flag('parallel.coordinator')} {coordinator}: port {port} can't be opened here ({error.strerror}); "
            "choose another, in all processes"
        ) from error


def count() -> int:
    """How many processes train as one."""
    return distributed.global_state.num_processes


def is_first() -> bool:
    """Whether this is the one that writes and tells."""
    return distributed.global_state.process_id == 0


def gathered(value: T) -> list[T]:
    """Every process's value (of what JSON can say), in their order. All of them have to come here.

    Raises:
        UserError: another process met one, and ends.
        Lost: another process didn't come.
    """
    global _turn
    if count() == 1:
        return [value]
    _turn += 1
    _put(_turn, {"value": value})
    return [_got(_turn, process) for process in range(count())]


def _put(turn: int, content: Mapping[str, Any]) -> None:
    key = f"flax_agnews/{turn}/{distributed.global_state.process_id}"
    _store().key_value_set(key, json.dumps(content))


def _store() -> Any:
    """The coordination service's, where there are several processes."""
    return distributed.global_state.client


def _got(turn: int, process: int) -> Any:
    """What a process put, once it has; waits in slices, between which Python gets its signals."""
    end = time.monotonic() + _MEETING_SECONDS
    while True:
        try:
            text = _store().blocking_key_value_get(f"flax_agnews/{turn}/{process}", 500)
            break
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
            if time.monotonic() > end:
                raise Lost(f"process {process} didn't come within {_MEETING_SECONDS} s; see what it said") from None
    content = json.loads(text)
    if "failed" in content:
        raise UserError(f"process {process}: {content['failed']}")
    return content["value"]


def meet() -> None:
    """Waits until all processes are here."""
    gathered(None)


def of_first(value: T) -> T:
    """The first process's value (of what JSON can say), in all of them."""
    return gathered(value)[0]


def first_before_others(act: Callable[[], T]) -> T:
    """Calls `act` in the first process, which may write, then in the others, which read what it wrote."""
    if is_first():
        result = act()
        meet()
        return result
    meet()
    return act()


def check_same(facts: Mapping[str, Any]) -> None:
    """Raises a `UserError` where a process has other facts (of what JSON can say) than the first."""
    mine = json.loads(json.dumps(facts))
    first, *others = gathered(mine)
    for process, other in enumerate(others, start=1):
        if other != first:
            names = [name for name in {**first, **other} if first.get(name) != other.get(name)]
            changed = listed(f"{name} {other.get(name)} (there {first.get(name)})" for name in names)
            raise UserError(f"process {process} has something else than process 0: {changed}")


@contextmanager
def telling() -> Iterator[None]:
    """Around a program: an error of one process reaches the others where they meet next, and a lost one is `Lost`."""
    try:
        yield
    except UserError as error:
        if count() > 1:
            with suppress(jax.errors.JaxRuntimeError):
                _put(_turn + 1, {"failed": error.message})
        raise
    except jax.errors.JaxRuntimeError as error:
        if count() == 1 or not _LOST.search(str(error)):
            raise
        raise Lost(
            f"another process has ended or can't be reached ({first_line(error)}); see what it said, and start all "
            "of them again"
        ) from error


def leave(code: int) -> int:
    """An exit code; where there are several processes, exits with it at once, not waiting for the others."""
    if count() > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


@contextmanager
def _muted() -> Iterator[None]:
    """Without standard output, where gloo tells of its first connection to each device, past Python."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


class Vote:
    """Whether any process was asked to stop, told to all at the same update.

    Args:
        devices: of all processes.
    """

    def __init__(self, devices: Devices) -> None:
        self._devices, self._last = devices, None
        self._most = devices.compile(
            lambda nothing, neither, heard: jax.lax.pmax(heard, AXIS), (), (), self._placed(0), donate=False
        )
        meet()
        with _muted():
            self(0, now=True)

    def __call__(self, heard: int, now: bool = False) -> int:
        """The largest number that any process had heard at the call before this one; of this one if `now`.

        A call starts a sum over the devices, and reads the one before it, which was over when the last update was.
        """
        before = self._last
        self._last = self._devices.first(self._most((), (), self._placed(heard)))
        read = self._last if now else before
        return 0 if read is None else int(read)

    def _placed(self, heard: int) -> Any:
        return self._devices.batch(np.full(len(self._devices), heard, np.int32))
