"""Plans where the runs of a comparison go, and when: jobs to devices, as a queue in the order of the plan."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.errors import UserError, flag
from flax_agnews.system.display import Display
from flax_agnews.system.text import bytes_text
from flax_agnews.training.memory_plan import estimated_memory, memory_limit
from flax_agnews.training.parallel import Devices
from flax_agnews.training.state import Setup


@dataclass(frozen=True)
class TimedJob:
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

    job: TimedJob
    device: int
    start: float
    end: float


def spread(
    config: Config, strategies: int, devices: int, processes: int, size: int = 0, limit: int | None = None
) -> bool:
    """Whether each device trains runs of its own, rather than its part of every batch, by `parallel.spread`.

    The choice doesn't depend on which runs are finished, so that a comparison that is resumed gives the same bytes.

    Args:
        config: all settings.
        strategies: number of strategies of the whole comparison.
        devices: number of devices of all processes.
        processes: number of processes that train together; of several, all share every batch.
        size: estimated bytes of the largest run on a device.
        limit: bytes that a device has; None if unknown, where every run is taken to fit.

    Raises:
        UserError: `runs` for several processes, or with pmap or fsdp, which split a batch or a run.
    """
    setting, mode = config.parallel.spread, config.parallel.mode
    if setting == "runs" and processes > 1:
        raise UserError(f"{flag('parallel.spread')} runs: is for one process; choose batch for several")
    if setting == "runs" and mode == "pmap":
        raise UserError(f"{flag('parallel.spread')} runs: {flag('parallel.mode')} pmap splits batches; choose jit")
    if setting == "runs" and config.parallel.fsdp:
        raise UserError(f"{flag('parallel.spread')} runs: {flag('parallel.fsdp')} splits a run; choose batch")
    jobs, fits = strategies * -(-config.train.runs // config.train.parallel_seeds), limit is None or size <= limit
    possible = processes == 1 and devices > 1 and mode == "jit" and not config.parallel.fsdp
    return possible and (setting == "runs" or (setting == "auto" and jobs > 1 and fits))


def largest_run(setups: Sequence[Setup], batches: TrainBatches, together: int) -> int:
    """Estimated bytes of the largest of the strategies' runs on a device that computes whole batches.

    Args:
        setups: the strategies on the model.
        batches: training batches of token ids, planned for one device.
        together: number of seeds that train together.
    """
    return max(estimated_memory(setup, [batches] * len(setup.stages), together).total for setup in setups)


def fits_apart(
    config: Config, setups: Sequence[Setup], batches: TrainBatches, devices: Devices, display: Display
) -> bool:
    """Whether runs that are spread fit one device each; shows it where `auto` spreads none for want of memory.

    Args:
        config, setups, batches: as in `spread` and `largest_run`.
        devices: all devices.
        display: where the message is shown.
    """
    size = largest_run(setups, batches, config.train.parallel_seeds)
    limit = memory_limit(devices.devices[0], len(devices))
    if config.parallel.spread == "runs" or limit is None or size <= limit:
        return True
    needs = f"a run takes about {bytes_text(size)}, a device has {bytes_text(limit)}"
    display.note(f"{needs}: every batch is split over all devices ({flag('parallel.spread')} runs tries it)")
    return False


def schedule(jobs: Sequence[TimedJob], devices: int, before: Mapping[str, float] | None = None) -> list[Slot]:
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
