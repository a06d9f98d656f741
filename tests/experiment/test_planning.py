"""Jobs on devices: against a simulation second by second, and by hand."""

import random

import pytest

from flax_agnews.experiment.planning import Job, makespan, schedule, spread_of


def simulated(jobs: list[Job], devices: int, before: dict[str, float]) -> tuple[dict[int, tuple[int, int, int]], int]:
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
    jobs = [Job(name, (seed,), rng.randint(1, 9)) for name in names for seed in range(rng.randint(1, 4))]
    before, devices = {name: float(rng.randint(0, 5)) for name in names}, rng.randint(1, 5)
    slots = schedule(jobs, devices, before)
    found, end = simulated(jobs, devices, before)
    assert [(slot.device, slot.start, slot.end) for slot in slots] == [found[n] for n in range(len(jobs))]
    assert makespan(slots) == end


def test_one_device_takes_the_sum_and_no_jobs_no_time() -> None:
    jobs = [Job("a", (0,), 3), Job("a", (1,), 3), Job("b", (0,), 5)]
    assert makespan(schedule(jobs, 1, {"a": 2, "b": 1})) == 3 + 3 + 5 + 2 + 1
    assert makespan(schedule([], 4)) == 0


def test_runs_are_spread_where_there_are_several_and_each_fits() -> None:
    assert spread_of("auto", 2, 4, 1, size=10, limit=10) == "runs"
    assert spread_of("auto", 2, 4, 1, size=10, limit=None) == "runs"
    for jobs, devices, processes, size in ((1, 4, 1, 10), (2, 1, 1, 10), (2, 4, 2, 10), (2, 4, 1, 11)):
        assert spread_of("auto", jobs, devices, processes, size, 10) == "batch"
    assert spread_of("runs", 1, 4, 1, 11, 10) == "runs"
    assert spread_of("batch", 9, 4, 1, 1, 10) == "batch"
