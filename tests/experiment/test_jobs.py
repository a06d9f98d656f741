"""Programs of jobs: each strategy compiled once, let go after its last job, and not waited for where it is ready."""

import io
import threading
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from flax_agnews.experiment.jobs import Job, Programs
from flax_agnews.system.display import Display

SECONDS = 20  # longest wait for another thread


class Made:
    """A program that only knows its strategy and its devices."""

    ready = True

    def __init__(self, setup: Any, devices: str = "first") -> None:
        self.setup, self.devices = setup, devices

    def wait(self) -> None:
        """Nothing is compiled."""

    def on(self, devices: str, weights: str) -> "Made":
        assert weights == f"weights on {devices}"
        return Made(self.setup, devices)


class Compilations:
    """Compiles what is asked for, which may take until `go`."""

    def __init__(self, slow: str = "") -> None:
        self.made: list[tuple[str, set[int], bool]] = []
        self.slow, self.begun, self.go = slow, threading.Event(), threading.Event()

    def __call__(self, setup: Any, sizes: set[int], wait: bool) -> Any:
        self.made.append((setup.name, sizes, wait))
        if setup.name == self.slow:
            self.begun.set()
            assert self.go.wait(SECONDS)
        return Made(setup)


def programs_of(jobs: list[Job], compile: Compilations, ahead: bool = False) -> Programs:
    display = Display(Console(file=io.StringIO()))
    return Programs(jobs, compile, lambda devices: f"weights on {devices}", lambda setup: ahead, display)  # type: ignore


def jobs(*runs: tuple[str, list[int]]) -> list[Job]:
    setups = {name: SimpleNamespace(name=name) for name, _ in runs}
    return [Job(setups[name], seeds) for name, seeds in runs]  # type: ignore


def test_a_strategy_is_compiled_once_for_all_sizes_of_its_groups_and_placed_where_it_trains() -> None:
    plan, compile = jobs(("a", [1, 2]), ("a", [3]), ("b", [1])), Compilations()
    programs: Any = programs_of(plan, compile)
    found = [programs.of(job, devices) for job, devices in zip(plan, ["first", "second", "second"], strict=True)]
    assert compile.made == [("a", {1, 2}, True), ("b", {1}, True)]
    assert [(program.setup.name, program.devices) for program in found] == [
        ("a", "first"),
        ("a", "second"),
        ("b", "second"),
    ]


def test_the_next_strategy_is_begun_in_the_background_where_it_may() -> None:
    plan, compile = jobs(("a", [1]), ("b", [1]), ("c", [1])), Compilations()
    programs: Any = programs_of(plan, compile, ahead=True)
    for job in plan:
        programs.of(job, "first")
    assert compile.made == [("a", {1}, True), ("b", {1}, False), ("c", {1}, False)]


def test_a_device_goes_on_with_a_compiled_strategy_while_another_is_compiled() -> None:
    plan, compile = jobs(("a", [1]), ("a", [2]), ("b", [1])), Compilations(slow="b")
    programs: Any = programs_of(plan, compile)
    programs.of(plan[0], "first")
    thread = threading.Thread(target=programs.of, args=(plan[2], "second"), daemon=True)
    thread.start()
    assert compile.begun.wait(SECONDS)
    assert programs.of(plan[1], "first").setup.name == "a"  # would wait for `b` for ever otherwise
    compile.go.set()
    thread.join(SECONDS)
    assert not thread.is_alive()
