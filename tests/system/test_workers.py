"""Jobs of several workers: order, how many at once, and what happens when one fails or a signal arrives."""

import threading
from collections import Counter

import pytest

from flax_agnews.system.interrupt import Interrupt, Stopped
from flax_agnews.system.workers import Workers, at_work

SECONDS = 20  # longest wait for another thread


def test_one_worker_does_all_jobs_in_order_in_the_calling_thread() -> None:
    done: list[tuple[int, str, int]] = []
    Workers(["only"], Interrupt()).each(range(4), lambda job, who: done.append((job, who, threading.get_ident())))
    assert done == [(job, "only", threading.get_ident()) for job in range(4)]


def test_as_many_jobs_at_once_as_there_are_workers_each_by_one_of_them() -> None:
    meeting, begun, done = threading.Barrier(3), list[int](), Counter[int]()

    def act(job: int, worker: str) -> None:
        begun.append(job)
        meeting.wait(SECONDS)  # passed by three jobs at a time only
        done[job] += 1

    Workers(["a", "b", "c"], Interrupt()).each(range(6), act)
    assert done == Counter(range(6))
    assert set(begun[:3]) == {0, 1, 2}
    assert not at_work()


def test_a_free_worker_takes_the_next_job() -> None:
    done: dict[str, list[int]] = {"slow": [], "quick": []}
    last = threading.Event()

    def act(job: int, worker: str) -> None:
        done[worker].append(job)
        if worker == "slow":
            assert last.wait(SECONDS)
        elif job == 5:
            last.set()

    Workers(["slow", "quick"], Interrupt()).each(range(6), act)
    assert len(done["slow"]) == 1
    assert sorted(done["slow"] + done["quick"]) == list(range(6))


def test_a_failure_stops_the_others_and_begins_no_job() -> None:
    interrupt, begun = Interrupt(), list[int]()
    both = threading.Barrier(2)

    def act(job: int, worker: str) -> None:
        begun.append(job)
        both.wait(SECONDS)
        if job == 0:
            raise OSError("disk")
        while not interrupt.check():
            pass
        raise Stopped("saved at 1", 0)

    with pytest.raises(OSError, match="disk"):
        Workers(["a", "b"], interrupt).each(range(5), act)
    assert sorted(begun) == [0, 1]
    assert not interrupt.check()  # later jobs aren't stopped by it


def test_after_a_signal_the_places_of_all_are_named() -> None:
    both = threading.Barrier(2)

    def act(job: int, worker: str) -> None:
        both.wait(SECONDS)
        raise Stopped(f"saved at {job}", 15)

    with pytest.raises(Stopped) as found:
        Workers(["a", "b"], Interrupt()).each(range(2), act)
    assert (found.value.where, found.value.signal) == ("saved at 0; saved at 1", 15)
