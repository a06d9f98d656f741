"""Calls a function again and again while something else takes long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread


@contextmanager
def every(seconds: float, call: Callable[[], None]) -> Iterator[None]:
    """A context in which another thread calls a function every so many seconds, first after as many.

    Args:
        seconds: time between calls.
        call: the function; after an error of writing it is called no more.
    """
    over = Event()

    def beat() -> None:
        with suppress(OSError):
            while not over.wait(seconds):
                call()

    thread = Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
