"""The tests of the quick suite that may take long, with reasons; a run of all of it fails where others do."""

import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

LIMIT = 20.0
"""Seconds of processor time, own and of awaited processes: seconds on the clock depend on what else runs."""

BUSY = 1.75
"""A busy machine takes up to so many times a quiet one's processor time: only what is above fails a run."""

_PROCESSES = "tests/training/test_processes.py"
SLOW: dict[str, str] = {
    f"{_PROCESSES}::test_a_signal_to_one_stops_all_and_the_same_command_goes_on": "two processes, twice",
    f"{_PROCESSES}::test_two_processes_give_the_results_of_one": "two processes, and then one, train",
    f"{_PROCESSES}::test_two_processes_give_one_devices_gradients_and_losses": "two processes and this one compile",
    "tests/data/test_hub.py::test_no_flags_but_limits_run_the_original_experiment": "three strategies in a process",
}
"""A test of the quick suite that may take longer -> why."""

QUICK = "not long and not faults"
"""The markers of the quick suite, as in pyproject.toml."""


def mistakes(seconds: Mapping[str, float], slow: Mapping[str, str], limit: float) -> list[str]:
    """What to correct in the table of slow tests, given the processor time of each test."""
    above = {test: time for test, time in seconds.items() if time > limit and test not in slow}
    gone = [test for test in slow if test not in seconds]
    return [
        *(
            f"{test} took {time:.0f} s of processor time: make it cheaper, or give its reason"
            for test, time in above.items()
        ),
        *(f"{test} isn't a test of the quick suite: delete its row" for test in gone),
    ]


def processor_seconds() -> float:
    """Processor time of this process and of the processes that it has waited for."""
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)


class ProcessorTime:
    """A pytest plugin that sums up the processor time of each test, in all workers, and checks it after a whole run."""

    def __init__(self, slow: Mapping[str, str] = SLOW, limit: float = LIMIT * BUSY) -> None:
        self.slow, self.limit = slow, limit
        self.seconds: Counter[str] = Counter()
        self.mistakes: list[str] = []
        self.last = 0.0

    def pytest_collection_finish(self) -> None:
        self.last = processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report: Any = yield  # of one phase: since the report before
        now = processor_seconds()
        report.user_properties.append(("processor_seconds", now - self.last))
        self.last = now
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] += dict(report.user_properties).get("processor_seconds", 0.0)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workerinput") or not of_all_quick_tests(session):
            return
        self.mistakes = mistakes(self.seconds, self.slow, self.limit)
        if self.mistakes and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        terminalreporter.write_line(f"processor time of all tests: {self.seconds.total():.0f} s")
        for mistake in self.mistakes:
            terminalreporter.write_line(f"ERROR {__name__}: {mistake}", red=True)


def of_all_quick_tests(session: pytest.Session) -> bool:
    """Whether a run is of the whole quick suite, to its end."""
    config, option = session.config, session.config.option
    everything = config.args_source is pytest.Config.ArgsSource.TESTPATHS and option.markexpr in ("", QUICK)
    chosen = option.keyword or option.deselect or option.collectonly or getattr(option, "lf", False)
    return everything and not chosen and not session.shouldstop and not session.shouldfail
