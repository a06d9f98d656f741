"""The jobs of an experiment, each one strategy's runs that train together, and the programs that they need."""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from flax_agnews.errors import Diverged
from flax_agnews.experiment.progress import wait_for
from flax_agnews.models.parameters import Parameters
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Interrupt, Stopped
from flax_agnews.system.workers import Workers
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program
from flax_agnews.training.state import Setup

J = TypeVar("J")


@dataclass(frozen=True)
class Job:
    """Runs of a strategy that train together: one run, or as many as `train.parallel_seeds`.

    Attributes:
        setup: the strategy on the model.
        seeds: seeds of the runs.
    """

    setup: Setup
    seeds: Sequence[int]

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return self.setup.name


class Programs:
    """The compiled programs of jobs: one for each strategy, compiled once, and loaded onto each device that needs it.

    A strategy's program is let go when its last job has taken it.

    Args:
        jobs: the jobs, in the order in which they are begun.
        compile: (strategy, numbers of seeds that train together, whether to wait) -> its program.
        weights: the body's weights on other devices than those that programs are compiled for.
        ahead: whether a strategy may be compiled in the background, while the one before it trains.
        display: shows what is waited for.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        compile: Callable[[Setup, set[int], bool], Program],
        weights: Callable[[Devices], Parameters],
        ahead: Callable[[Setup], bool],
        display: Display,
    ) -> None:
        self._compile, self._weights, self._ahead, self._display = compile, weights, ahead, display
        self._left = Counter(job.name for job in jobs)
        self._order = {job.name: job.setup for job in jobs}
        self._sizes = {name: {len(job.seeds) for job in jobs if job.name == name} for name in self._left}
        self._begun: dict[str, Program] = {}  # compiled in the background
        self._ready: dict[str, Program] = {}
        self._placed: dict[Devices, Program] = {}  # the latest of each device
        self._change = threading.Lock()
        self._making = threading.Lock()  # one strategy at a time: compiling uses all cores, and caches are shared

    def of(self, job: Job, devices: Devices) -> Program:
        """The program of a job on the devices that train it; waits until it is compiled."""
        placed = self._placed.get(devices)
        if placed is None or placed.setup.name != job.name:
            self._placed.pop(devices, None)  # what it has on the devices is free before the next is placed
            placed = None
        found = placed or self._ready.get(job.name)
        if found is None:
            with self._making:
                found = self._ready.get(job.name) or self._compiled(job.setup)
        with self._change:
            self._left[job.name] -= 1
            if not self._left[job.name]:
                self._ready.pop(job.name, None)
        if placed is None:
            found = found if found.devices == devices else found.on(devices, self._weights(devices))
            self._placed[devices] = found
        return found

    def _compiled(self, setup: Setup) -> Program:
        """A strategy's program; begins to compile the next strategy's, where that may be done in the background."""
        program = self._begun.pop(setup.name, None) or self._compile(setup, self._sizes[setup.name], True)
        wait_for(program, self._display)
        self._ready[setup.name] = program
        names = list(self._order)
        for name in names[names.index(setup.name) + 1 :][:1]:
            if name not in self._begun and name not in self._ready and self._ahead(self._order[name]):
                self._begun[name] = self._compile(self._order[name], self._sizes[name], False)
        return program


def each_on_devices(
    jobs: Iterable[J], act: Callable[[J, Devices], None], workers: Sequence[Devices], interrupt: Interrupt
) -> None:
    """Calls `act` with every job and the devices of the worker that does it; as many at once as there are workers.

    Raises:
        Exception: as `Workers.each`.
    """

    def there(job: J, devices: Devices) -> None:
        with devices.by_default():
            act(job, devices)

    Workers(workers, interrupt).each(jobs, there)


def train_on_devices(
    jobs: Sequence[Job],
    train: Callable[[Job, Devices], None],
    finished: Callable[[Job, Sequence[str]], None],
    workers: Sequence[Devices],
    interrupt: Interrupt,
) -> None:
    """Trains jobs on the devices of this machine; those whose numbers are not finite don't stop the others.

    Args:
        jobs: the jobs.
        train: trains one on the devices of a worker.
        finished: called after each job, with those of its runs whose numbers were not finite, and where.
        workers, interrupt: as of `each_on_devices`.
    """

    def act(job: Job, devices: Devices) -> None:
        faults: Sequence[str] = ()
        if interrupt.check(now=True):
            raise Stopped("stopped between runs", interrupt.asked)
        try:
            train(job, devices)
        except Diverged as stopped:
            faults = stopped.faults
        finished(job, faults)

    each_on_devices(jobs, act, workers, interrupt)
