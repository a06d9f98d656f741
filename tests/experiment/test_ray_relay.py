"""Progress and stop requests between tasks and their driver, without Ray: the desk is called directly."""

import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import Console

from flax_agnews.experiment.ray_relay import Board, Desk, Relay, RelayDisplay
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Interrupt


def caller(desk: Desk) -> Callable[..., Any]:
    return lambda method, *arguments: getattr(desk, method)(*arguments)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_a_task_shows_is_shown_by_its_driver_and_a_stop_request_reaches_it() -> None:
    desk, display, interrupt, out = Desk(), RelayDisplay(), Interrupt(), io.StringIO()
    board = Board(Display(Console(file=out, width=100)))
    with Relay(caller(desk), "full seed 1", "10.0.0.2") as relay:
        display.relay = relay
        relay.watch(interrupt)
        display.note("a message")
        line = display.start("full", "seed 1", 2)
        line.step(0.5, 100.0)
        line.step(1.0, 100.0)
        line.epoch(1, "val 0.500  best 0.500")
        line.finish("test 0.250")
        assert not interrupt.check()
        board.show(desk.take(15))
        until(interrupt.check)
    board.show(desk.take(0))
    assert interrupt.asked == relay.signal == 15
    expected = ["full seed 1: on node 10.0.0.2", "a message", "full seed 1  epoch 1/2  val 0.500  best 0.500"]
    lines = out.getvalue().splitlines()
    assert lines[:3] == expected
    assert lines[3].startswith("full seed 1  done in 0:00:0")
    assert lines[3].endswith("test 0.250")
    assert len(lines) == 4


def test_a_task_that_begins_again_is_said_and_replaces_the_attempt_before() -> None:
    desk, out = Desk(), io.StringIO()
    board = Board(Display(Console(file=out, width=100)))
    desk.begin("full seed 1", "first", "10.0.0.2")
    assert desk.report("full seed 1", "first", []) == 0
    desk.begin("full seed 1", "second", "10.0.0.3")
    assert desk.report("full seed 1", "first", []) < 0
    assert desk.report("full seed 1", "second", []) == 0
    board.show(desk.take(0))
    first, second = out.getvalue().splitlines()
    assert "10.0.0.2" in first
    assert second == "full seed 1: on node 10.0.0.3, again: its node or process was lost"
