"""Training by several processes: joining them, exchanging values between them, and detecting that one is lost.

Each process runs the same command with the same settings and texts, and computes its part of every batch; only the
first writes files. Methods of `Team` marked as collectives must be called by all processes in the same order.
"""

import json
import os
import re
import socket
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TypeVar

import jax

from flax_agnews.config import ParallelConfig
from flax_agnews.errors import Lost, UserError, first_line, flag, listed
from flax_agnews.training.private_apis import key_value_store, process_count, process_number

T = TypeVar("T")

_HEARTBEAT_SECONDS = 60  # silence after which JAX considers a process dead, and ends the others
_MEETING_SECONDS = 600  # longest wait for a live process, which may download or save; also at shutdown
_LOST = re.compile("gloo|nccl|coordination|peer|connection|unavailable|deadline", re.IGNORECASE)


def start(config: ParallelConfig) -> None:
    """Joins the other processes if the settings name any; must be called before JAX starts its devices.

    If the processes don't find each other within `parallel.start_seconds`, prints an error and exits with code 2.

    Raises:
        UserError: the settings contradict each other, or JAX can't join the processes.
    """
    _check(config)
    if config.coordinator is None or jax.distributed.is_initialized():
        return
    if config.process == 0 and config.coordinator != "auto":
        _check_port(config.coordinator)
    found = None if config.coordinator == "auto" else config.coordinator
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM from `Interrupt`
    timer = threading.Timer(config.start_seconds, _give_up, [config])  # JAX's own timeout aborts silently
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
    """Reports that the processes didn't find each other, and exits."""
    print(
        f"error: --parallel.coordinator {config.coordinator}: the processes didn't find each other within "
        f"{config.start_seconds} s. Start {config.processes or 'all'} of them, numbered from 0, with an address of the "
        f"first that all can reach, or raise --parallel.start_seconds",
        file=sys.stderr,
    )
    sys.stderr.flush()
    os._exit(2)


def _check(config: ParallelConfig) -> None:
    """Raises a `UserError` if settings of several processes contradict each other."""
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
    """Raises a `UserError` if the first process can't open its port, since JAX would crash."""
    port, both = int(coordinator.rsplit(":", 1)[1]), socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both else socket.AF_INET
    try:
        socket.create_server(("", port), family=family, dualstack_ipv6=both).close()
    except OSError as error:
        raise UserError(
            f"{flag('parallel.coordinator')} {coordinator}: port {port} can't be opened here ({error.strerror}); "
            "choose another, in all processes"
        ) from error


class Team(ABC):
    """The processes that train together: `SingleProcess` or `SeveralProcesses`."""

    @property
    @abstractmethod
    def count(self) -> int:
        """Number of processes."""

    @property
    @abstractmethod
    def is_first(self) -> bool:
        """Whether this process is the first, which writes files and shows progress."""

    @abstractmethod
    def gathered(self, value: T) -> list[T]:
        """Gathers a JSON-serialisable value from every process, in their order. A collective.

        Raises:
            UserError: another process ends by a `UserError`.
            Lost: another process didn't answer in time.
        """

    @abstractmethod
    def tell_failure(self, message: str) -> None:
        """Makes the next collective raise a `UserError` in the other processes, since this process ends by one."""

    @abstractmethod
    def leave(self, code: int) -> int:
        """Returns `code`; with several processes, exits with it at once instead, without waiting for the others."""

    def meet(self) -> None:
        """Waits until all processes have called it: a barrier. A collective."""
        self.gathered(None)

    def of_first(self, value: T) -> T:
        """Broadcasts the first process's JSON-serialisable value to all. A collective."""
        return self.gathered(value)[0]

    def first_before_others(self, act: Callable[[], T]) -> T:
        """Calls `act` in the first process, which may write files, and then in the others. A collective."""
        if self.is_first:
            result = act()
            self.meet()
            return result
        self.meet()
        return act()

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Raises a `UserError` if a process has other JSON-serialisable facts than the first. A collective."""
        first, *others = self.gathered(json.loads(json.dumps(facts)))
        for process, other in enumerate(others, start=1):
            if changed := different(first, other):
                raise UserError(f"process {process} has something else than process 0: {changed}")


def different(first: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """The facts that differ, by name, with the values of both: `JAX 0.11 (there 0.10)`; empty where none does.

    Args:
        first: JSON-serialisable facts.
        other: the same facts, of another process.
    """
    there, here = (json.loads(json.dumps(facts)) for facts in (first, other))
    names = [name for name in {**there, **here} if there.get(name) != here.get(name)]
    return listed(f"{name} {here.get(name)} (there {there.get(name)})" for name in names)


class SingleProcess(Team):
    """A single process; its collectives return at once."""

    count = 1
    is_first = True

    def gathered(self, value: T) -> list[T]:
        """A list of its own value."""
        return [value]

    def tell_failure(self, message: str) -> None:
        """Does nothing: there are no other processes."""

    def leave(self, code: int) -> int:
        """Returns the exit code."""
        return code


class SeveralProcesses(Team):
    """The processes that JAX has joined, which exchange values through JAX's coordination service."""

    def __init__(self) -> None:
        self._turn = 0  # number of collectives so far, the same in every process

    @property
    def count(self) -> int:
        """Number of processes."""
        return process_count()

    @property
    def is_first(self) -> bool:
        """Whether this is process 0."""
        return process_number() == 0

    def gathered(self, value: T) -> list[T]:
        """As `Team.gathered`."""
        self._turn += 1
        self._put(self._turn, {"value": value})
        return [self._got(self._turn, process) for process in range(self.count)]

    def tell_failure(self, message: str) -> None:
        """As `Team.tell_failure`."""
        with suppress(jax.errors.JaxRuntimeError):
            self._put(self._turn + 1, {"failed": message})

    def leave(self, code: int) -> int:
        """Ends this process."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    def _put(self, turn: int, content: Mapping[str, Any]) -> None:
        key_value_store().key_value_set(f"flax_agnews/{turn}/{process_number()}", json.dumps(content))

    def _got(self, turn: int, process: int) -> Any:
        """Waits for a process's value; in short waits, between which Python can handle signals."""
        end = time.monotonic() + _MEETING_SECONDS
        while True:
            try:
                text = key_value_store().blocking_key_value_get(f"flax_agnews/{turn}/{process}", 500)
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


def current_team() -> Team:
    """The team of this process; `SingleProcess` unless `start` has joined others."""
    return _several_processes() if process_count() > 1 else SingleProcess()


@cache
def _several_processes() -> SeveralProcesses:
    """The only object of its class in this process, since it counts collectives."""
    return SeveralProcesses()


@contextmanager
def sharing_failures() -> Iterator[None]:
    """Wraps a command: passes a `UserError` on to the other processes, and raises `Lost` if another process is gone."""
    try:
        yield
    except UserError as error:
        current_team().tell_failure(error.message)
        raise
    except jax.errors.JaxRuntimeError as error:
        if current_team().count == 1 or not _LOST.search(str(error)):
            raise
        raise Lost(
            f"another process has ended or can't be reached ({first_line(error)}); see what it said, and start all "
            "of them again"
        ) from error
