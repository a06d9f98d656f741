"""Plans where the runs of a comparison go, and when: jobs to devices, as a queue in the order of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Spread = Literal["runs", "batch"]
"""One run on each device, or every batch over all of them and the runs one after the other."""


@dataclass(frozen=True)
class Job:
    """A group of a strategy's seeds that trains together, usually of one.

    Attributes:
        strategy: name of the strategy.
        seeds: seeds of its runs.
        seconds: time that it takes, without compiling.
    """

    strategy: str
    seeds: tuple[int, ...]
    seconds: float


@dataclass(frozen=True)
class Slot:
    """When and where a job runs.

    Attributes:
        job: the job.
        device: number of the device, from 0.
        start, end: in seconds from the start of the first.
    """

    job: Job
    device: int
    start: float
    end: float


def spread_of(
    setting: Literal["auto", "runs", "batch"], jobs: int, devices: int, processes: int, size: int, limit: int | None
) -> Spread:
    """How a comparison's runs use several devices, by the setting `parallel.spread`.

    Args:
        setting: `auto` spreads runs where there are two jobs or more, and one of them fits a device.
        jobs: number of jobs.
        devices: number of devices.
        processes: number of processes that train together; of several, all share every batch.
        size: estimated bytes of the largest run on a device.
        limit: bytes that a device has; None if unknown, where every run is taken to fit.
    """
    if setting != "auto":
        return setting
    fits = limit is None or size <= limit
    return "runs" if jobs > 1 and devices > 1 and processes == 1 and fits else "batch"


def schedule(jobs: Sequence[Job], devices: int, before: Mapping[str, float] | None = None) -> list[Slot]:
    """Deals jobs in their order, each to the device that is free first; of several, the one with the lowest number.

    Args:
        jobs: the jobs.
        devices: number of devices.
        before: name of a strategy -> seconds that its first job waits for, such as compiling; its others wait for the
            same end. They begin when its first job is dealt.
    """
    free, ready, slots = [0.0] * devices, dict[str, float](), list[Slot]()
    for job in jobs:
        device = free.index(min(free))
        if job.strategy not in ready:
            ready[job.strategy] = free[device] + (before or {}).get(job.strategy, 0.0)
        start = max(free[device], ready[job.strategy])
        free[device] = start + job.seconds
        slots.append(Slot(job, device, start, free[device]))
    return slots


def makespan(slots: Sequence[Slot]) -> float:
    """Seconds from the start of the first job to the end of the last."""
    return max((slot.end for slot in slots), default=0.0)
