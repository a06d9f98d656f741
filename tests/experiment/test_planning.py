"""Jobs on devices: against a simulation second by second, and by hand."""

import random
from typing import Any

import pytest

from flax_agnews.config import Config, ParallelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.planning import TimedJob, makespan, schedule, spread


def simulated(
    jobs: list[TimedJob], devices: int, before: dict[str, float]
) -> tuple[dict[int, tuple[int, int, int]], int]:
    """Second by second: idle devices take the next job, and count down first its wait and then its work.

    Returns number of a job -> (device, start, end), and the second at which all are done.
    """
    queue, now = list(range(len(jobs))), 0
    running: list[tuple[int, int, int] | None] = [None] * devices  # job, seconds to wait, seconds to work
    compiled_at: dict[str, int] = {}
    found: dict[int, tuple[int, int, int]] = {}
    while queue or any(running):
        for device in range(devices):
            if running[device] is None and queue:
                number = queue.pop(0)
                name = jobs[number].strategy
                compiled_at.setdefault(name, now + int(before.get(name, 0)))
                wait = max(0, compiled_at[name] - now)
                running[device] = number, wait, int(jobs[number].seconds)
                found[number] = device, now + wait, now + wait + int(jobs[number].seconds)
        now += 1
        for device, held in enumerate(running):
            if held is not None:
                number, wait, work = held
                wait, work = (wait - 1, work) if wait else (0, work - 1)
                running[device] = (number, wait, work) if wait or work else None
    return found, now


@pytest.mark.parametrize("seed", range(20))
def test_a_schedule_is_what_a_simulation_does(seed: int) -> None:
    rng = random.Random(seed)
    names = [f"s{n}" for n in range(rng.randint(1, 4))]
    jobs = [TimedJob(name, (seed,), rng.randint(1, 9)) for name in names for seed in range(rng.randint(1, 4))]
    before, devices = {name: float(rng.randint(0, 5)) for name in names}, rng.randint(1, 5)
    slots = schedule(jobs, devices, before)
    found, end = simulated(jobs, devices, before)
    assert [(slot.device, slot.start, slot.end) for slot in slots] == [found[n] for n in range(len(jobs))]
    assert makespan(slots) == end


def test_one_device_takes_the_sum_and_no_jobs_no_time() -> None:
    jobs = [TimedJob("a", (0,), 3), TimedJob("a", (1,), 3), TimedJob("b", (0,), 5)]
    assert makespan(schedule(jobs, 1, {"a": 2, "b": 1})) == 3 + 3 + 5 + 2 + 1
    assert makespan(schedule([], 4)) == 0


def settings(setting: str = "auto", runs: int = 2, together: int = 1, mode: str = "jit") -> Config:
    given: dict[str, Any] = {"spread": setting, "mode": mode}
    return Config(train=TrainConfig(runs=runs, parallel_seeds=together), parallel=ParallelConfig(**given))


def test_runs_are_spread_where_there_are_several_and_each_fits() -> None:
    assert spread(settings(), strategies=1, devices=4, processes=1)
    assert spread(settings(), 1, 4, 1, size=10, limit=10)
    for config in (settings(runs=1), settings(together=2), settings(mode="pmap")):
        assert not spread(config, 1, 4, 1)
    for devices, processes, size in ((1, 1, 10), (4, 2, 10), (4, 1, 11)):
        assert not spread(settings(), 1, devices, processes, size, limit=10)
    assert spread(settings("runs", runs=1), 1, 4, 1, size=11, limit=10)
    assert not spread(settings("batch", runs=9), 1, 4, 1)


@pytest.mark.parametrize(("config", "processes"), [(settings("runs"), 2), (settings("runs", mode="pmap"), 1)])
def test_what_can_not_be_spread_is_refused(config: Config, processes: int) -> None:
    with pytest.raises(UserError, match=r"parallel\.spread runs"):
        spread(config, 3, 4, processes)
