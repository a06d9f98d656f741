"""Several workers, such as the devices of a machine, that do jobs at once: a thread for each."""

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

from flax_agnews.system.interrupt import Interrupt, Stopped

W = TypeVar("W")
J = TypeVar("J")

_NAME = "worker-"


class Workers(Generic[W]):
    """Does jobs on several workers: each takes the next job, in order, when it has finished the one before.

    With one worker, the jobs are done in the calling thread.

    Args:
        workers: what a job gets, such as a device.
        interrupt: stops the jobs of all workers where the job of one has failed.
    """

    def __init__(self, workers: Sequence[W], interrupt: Interrupt) -> None:
        self.workers, self._interrupt = workers, interrupt

    def each(self, jobs: Iterable[J], act: Callable[[J, W], None]) -> None:
        """Calls `act` with every job and the worker that does it; returns when all jobs are done.

        Where one raises, no further job is begun, and the jobs under way are asked to stop.

        Raises:
            Exception: what `act` raised first; where several raised `Stopped`, one that names all their places.
        """
        if len(self.workers) == 1:
            for job in jobs:
                act(job, self.workers[0])
            return
        queue, lock, errors = iter(jobs), threading.Lock(), list[Exception]()

        def work(worker: W) -> None:
            while True:
                with lock:
                    job = next(queue, None) if not errors else None
                if job is None:
                    return
                try:
                    act(job, worker)
                except Exception as error:
                    errors.append(error)
                    self._interrupt.given_up = True

        # Daemons, so that a second SIGINT ends the process at once.
        threads = [
            threading.Thread(target=work, args=(worker,), name=f"{_NAME}{number}", daemon=True)
            for number, worker in enumerate(self.workers)
        ]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()  # Python handles signals meanwhile
        except BaseException:
            self._interrupt.given_up = True
            raise
        if errors:
            self._interrupt.given_up = False
            raise _error_of(errors)


def at_work() -> bool:
    """Whether threads of workers are running, which an exit of Python would wait for or break off in native code."""
    return any(thread.name.startswith(_NAME) for thread in threading.enumerate())


def _error_of(errors: Sequence[Exception]) -> Exception:
    """The first error that isn't an answer to a signal; else an answer that names all places where jobs stopped."""
    stops = [error for error in errors if isinstance(error, Stopped)]
    others = [error for error in errors if not isinstance(error, Stopped)]
    return others[0] if others else Stopped("; ".join(sorted({stop.where for stop in stops})), stops[0].signal)
