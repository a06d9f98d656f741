"""The display in a terminal (simulated, with the test's own clock) and without one."""

import io
import re
import sys
import time
from contextlib import nullcontext

import pytest
from rich.cells import cell_len
from rich.console import Console

from flax_agnews.system import display as display_module
from flax_agnews.system.display import Display, Job

_RUNS = [Job(name, f"seed {seed}", 3) for name in ("full", "prompt", "partial") for seed in (42, 43)]


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def _display(clock, terminal, width=80, **more):
    color = "truecolor" if terminal else None
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=width,
        height=25,
        color_system=color,
        _environ={},
        **more,
    )
    return Display(console, clock)


def _written(display):
    return display.console.file.getvalue()


def _screen(display):
    """The lines that a terminal (endlessly high) shows after all that was written to it."""
    lines, row = [""], 0
    for text, code, control in re.findall(r"([^\r\n\x1b]+)|\x1b\[([0-9;?]*[A-Za-z])|([\r\n])", _written(display)):
        if text:
            lines[row] += text  # rich writes whole lines, after clearing them
        elif code == "2K":
            lines[row] = ""
        elif code.endswith("A"):
            row -= int(code[:-1])
        elif control == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
    return "\n".join(line.rstrip() for line in lines).rstrip("\n").split("\n")


def _picture(display):
    """The lines of the live part right now."""
    console = Console(file=io.StringIO(), width=display.console.width, _environ={})
    console.print(display.live.get_renderable())
    return console.file.getvalue().splitlines()


def _train(progress, clock, epochs, seconds_per_epoch, start=0):
    for tenth in range(start * 10 + 1, epochs * 10 + 1):
        clock.now += seconds_per_epoch / 10
        progress.step(tenth / 10, 21034.0)
        if tenth % 10 == 0:
            progress.epoch(tenth // 10, "val 0.902  best 0.934")


# --- without a terminal


def test_plain_lines_one_an_epoch(clock):
    display = _display(clock, terminal=False, width=20)
    long = "builtin: 4,000 train · " + "many words " * 20
    with display:
        display.say("data", long)
        display.plan(_RUNS[:1])
        with display.busy("tokenizing 4,000 texts"):
            assert _written(display).endswith("tokenizing 4,000 texts ...\n")  # before it starts
            clock.now += 3
        with display.busy("reading"):
            clock.now += 1
        progress = display.start("full", "seed 42", 3)
        _train(progress, clock, 3, 4.0)
        progress.finish("val 0.902  best 0.934")
        display.note("saved")
    assert _written(display).splitlines() == [
        f"data   {long}",  # never wrapped, however narrow
        "tokenizing 4,000 texts ...",
        "tokenizing 4,000 texts: 3 s",
        "reading ...",
        *[f"full seed 42  epoch {epoch}/3  val 0.902  best 0.934" for epoch in (1, 2, 3)],
        "full seed 42  done in 0:00:12  val 0.902  best 0.934",
        "saved",
    ]


@pytest.mark.parametrize("terminal", [False, True])
def test_texts_from_data_are_only_text(clock, terminal):
    display = _display(clock, terminal)
    with display:
        for write in (display.note, lambda text: display.say("data", text)):
            write("[bold]a[/bold] [/] :smile: \x1b[31mred\x07\nnext")
        display.start("[red]x", "[/]", 1).finish("[b]y")
    written = _written(display)
    assert written.count("[bold]a[/bold] [/] :smile:  [31mred  next") == 2
    assert "[red]x" in written
    assert "[b]y" in written
    assert "\x07" not in written
    assert "\x1b[31m" not in written
    assert terminal or not re.search(r"[^\n[:print:]]".replace("[:print:]", r"\x20-\uffff"), written)


def test_an_ascii_console_gets_what_it_can_say(clock):
    for terminal in (False, True):
        file = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        display = Display(Console(file=file, force_terminal=terminal, width=80, _environ={}), clock)
        with display:
            display.say("data", "4,000 train · 4 classes")
            display.plan(_RUNS)
            progress = display.start("full", "seed 42", 3)
            _train(progress, clock, 3, 1.0)
            progress.finish("loss 4.91 → 3.72")
            display.start("a very long name " * 9, "seed 名", 1).epoch(1, "")
        file.flush()
        written = file.buffer.getvalue().decode("ascii")
        assert "4,000 train - 4 classes" in written
        assert "loss 4.91 > 3.72" in written
        assert "seed ?" in written or terminal


# --- in a terminal


@pytest.mark.parametrize("width", [80, 120])
def test_the_first_minute(clock, width):
    display = _display(clock, terminal=True, width=width)
    with display:
        display.plan([Job("pretrain", "", 2), *_RUNS])
        progress = display.start("pretrain", "", 2)
        clock.now += 31
        progress.finish("loss 4.91 → 3.72")
        progress = display.start("full", "seed 42", 3)
        clock.now += 5  # compiling
        progress.step(0.0)
        _train(progress, clock, 3, 4.0)
        progress.finish("val 0.931  best 0.934")
        progress = display.start("full", "seed 43", 3)
        progress.step(0.0)
        _train(progress, clock, 1, 4.0)
        progress.step(1.0, 21034.0)
        running, waiting = _picture(display)
    words = re.split(r"\s{2,}|(?<=\d/3) +", running)
    assert words[0] == "full"
    assert re.fullmatch(r"seed 43\s+━+╸?━+ 1/3", " ".join(words[1:3]))
    # two epochs of 4 s are left of this one; the others wait with the rate of what runs
    assert words[3:] == ["val 0.902", "21 k tokens/s", "0:00:08 left"]
    assert re.fullmatch(r"prompt   2 to go · partial 2 to go +0:00:56 left", waiting)
    assert running.index("0:00:08") == waiting.index("0:00:56")
    lines = _screen(display)
    done = [line for line in lines if "3/3   val 0.931  best 0.934" in line]
    assert len(done) == 1  # a finished line is written once and stays
    assert done[0].endswith("0:00:17")
    [pretrained] = [line for line in lines if "loss 4.91 → 3.72" in line]
    assert re.fullmatch(r"pretrain +━+ 2/2 +loss 4.91 → 3.72 +0:00:31", pretrained)
    assert pretrained.index("2/2") == done[0].index("3/3") == running.index("1/3")
    assert max(cell_len(line) for line in (running, waiting, *done, pretrained)) <= width


def test_waiting_runs_of_a_name_that_has_finished_cost_its_average(clock):
    display = _display(clock, terminal=True)
    with display:
        display.plan([Job("full", "seed 1", 4), Job("full", "seed 2", 4), Job("full", "seed 3", 4)])
        assert "left" not in _picture(display)[-1]  # nothing is known yet
        for seed, seconds in ((1, 10), (2, 30)):
            progress = display.start("full", f"seed {seed}", 4, done_epochs=2.0)
            clock.now += seconds
            progress.finish("")
        assert _picture(display) == [f"full     1 to go{' ' * 52}0:00:40 left"]  # 40 s for 4 epochs, 4 more


def test_the_time_left_of_jobs_that_run_at_once(clock):
    """Of two workers: 30 s are left of one job, two of 40 s wait. A single waiting job takes its 40 s all the same."""
    display = _display(clock, True)
    with display:
        display.plan([Job("full", f"seed {seed}", 4) for seed in (1, 2, 3)], at_once=2)
        first = display.start("full", "seed 1", 4)
        first.step(0.0)
        clock.now += 10
        first.step(1.0)
        assert _picture(display)[-1].endswith("0:00:55 left")
        display.plan([Job("full", "seed 2", 4)], at_once=2)
        assert _picture(display)[-1].endswith("0:00:40 left")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_job_that_ends_before_its_time_shows_how_far_it_came(clock, terminal):
    display = _display(clock, terminal)
    with display:
        display.plan([Job("full", "seed 1", 4), Job("full", "seed 2", 4)])
        progress = display.start("full", "seed 1", 4)
        clock.now += 10
        progress.step(1.0)
        progress.finish("not finite", whole=False)
        if terminal:
            assert _picture(display)[-1].endswith("0:00:40 left")  # 10 s an epoch, and no four epochs in 10 s
    line = _screen(display)[0] if terminal else _written(display).splitlines()[0]
    drawn, plain = r"full +seed 1 .* 1/4 +not finite +0:00:10", "full seed 1  stopped after 0:00:10  not finite"
    assert re.fullmatch(drawn if terminal else plain, line)


def test_a_resumed_run_measures_its_own_epochs(clock):
    display = _display(clock, terminal=True)
    with display:
        display.plan([Job("full", "seed 1", 10)])
        progress = display.start("full", "seed 1", 10, done_epochs=8.0)
        assert "8/10" in _picture(display)[0]
        progress.step(8.1)
        clock.now += 6
        progress.step(8.6)
        [line] = _picture(display)
        assert line.endswith("0:00:17 left")  # 1.4 epochs of 12 s
        clock.now += 10
        [line] = _picture(display)
        assert line.endswith("0:00:07 left")  # counts down between steps
        clock.now += 100
        assert _picture(display)[0].endswith("0:00:00 left")


def test_bar_grows_with_the_epochs(clock):
    display = _display(clock, terminal=True, width=120)
    display.console.no_color = True
    with display:
        progress = display.start("full", "seed 1", 3)
        filled = []
        for tenth in range(31):
            progress.step(tenth / 10)
            filled.append(_picture(display)[0].count("━") + _picture(display)[0].count("╸") / 2)
    assert filled == pytest.approx(list(range(31)), abs=0.5)  # 30 cells, 3 epochs


def test_busy_is_on_the_screen_before_and_gone_after(clock):
    display = _display(clock, terminal=True)
    with display:
        with display.busy("compiling"):
            assert "compiling ..." in _written(display)
            with display.busy("caching"):
                assert "caching ..." in _picture(display)[0]
            assert "compiling ..." in _picture(display)[0]
            clock.now += 75
        assert _picture(display) == []
    assert _screen(display) == ["compiling: 1 min 15 s"]  # and no word of the fast one


def test_a_slow_task_shows_that_it_goes_on(clock):
    """Its seconds advance, and so does the sign before its name."""
    display = _display(clock, terminal=True)
    with display, display.busy("compiling"):
        signs = set()
        for tenth in range(1, 80):
            clock.now += 0.1
            [line] = _picture(display)
            signs.add(line[0])
            seconds = tenth / 10
            if abs(seconds % 1 - 0.5) > 0.2:  # away from where it is rounded
                assert line[1:] == (" compiling ..." if seconds < 1 else f" compiling ... {round(seconds)} s")
    assert len(signs) > 3


@pytest.mark.parametrize("terminal", [True, False])
def test_a_hint_is_shown_while_a_task_takes(clock, terminal):
    display = _display(clock, terminal)
    with display, display.busy("compiling", "about a minute"):
        clock.now += 9
        if terminal:
            assert _picture(display)[0].endswith(" compiling (about a minute) ... 9 s")
    before = [] if terminal else ["compiling (about a minute) ..."]
    assert [line for line in _screen(display) if line] == [*before, "compiling: 9 s"]


def test_without_a_terminal_a_slow_task_says_from_time_to_time_that_it_goes_on(clock, monkeypatch):
    """Of nested tasks only the inner one."""
    monkeypatch.setattr(display_module, "_ALIVE_SECONDS", 0.001)
    display = _display(clock, terminal=False)

    def wait_for(line):
        until = time.monotonic() + 60
        while line not in _written(display).splitlines():
            assert time.monotonic() < until, _written(display)
            time.sleep(0.001)

    with display, display.busy("reading"):
        with display.busy("compiling", "about a minute"):
            clock.now += 30
            wait_for("compiling ... 30 s")
            assert "reading ... 30 s" not in _written(display)
            clock.now += 45
            wait_for("compiling ... 1 min 15 s")
        wait_for("reading ... 1 min 15 s")
    assert _written(display).splitlines()[-1] == "reading: 1 min 15 s"


def test_in_a_terminal_no_lines_are_added_where_a_sign_moves(clock, monkeypatch):
    beats = []
    monkeypatch.setattr(display_module, "every", lambda seconds, call: beats.append(call) or nullcontext())
    display = _display(clock, terminal=True)
    with display, display.busy("compiling"):
        clock.now += 40
        beats[0]()
    assert [line for line in _screen(display) if line] == ["compiling: 40 s"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_pass_through_and_the_cursor_comes_back(clock, error):
    display, stdout = _display(clock, terminal=True), sys.stdout

    def fail():
        with display:
            display.plan(_RUNS)
            display.start("full", "seed 42", 3).step(1.5, 100.0)
            with display.busy("compiling"):
                raise error

    with pytest.raises(error):
        fail()
    written = _written(display)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    [last] = _screen(display)  # the last picture stays
    assert re.fullmatch(r"full +seed 42 .* 1/3 .*stopped", last)
    assert sys.stdout is stdout


def test_nested_use_draws_once(clock):
    outer = _display(clock, terminal=True)
    inner = Display(outer.console, clock)  # another display on the same console
    with outer, outer, inner:
        progress = inner.start("full", "seed 1", 1)
        progress.epoch(1, "val 0.9")
        progress.finish("val 0.9")
        outer.note("still here")
    with outer:
        outer.note("again")
    written = _written(outer)
    assert "val 0.9" in written
    assert "still here" in written
    assert "again" in written
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")


def test_outside_with_and_on_a_dumb_terminal_it_is_lines(clock):
    display = _display(clock, terminal=True)
    display.start("full", "seed 1", 1).epoch(1, "val 0.9")
    dumb = Display(Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"}), clock)
    with dumb:
        dumb.start("full", "seed 1", 1).epoch(1, "val 0.9")
    assert _written(display) == _written(dumb) == "full seed 1  epoch 1/1  val 0.9\n"


def test_long_names_and_texts_stay_on_one_line(clock):
    display = _display(clock, terminal=True)
    with display:
        display.plan([Job("my_very_long_strategy_名前", f"seed {seed}", 12) for seed in range(2)])
        progress = display.start("my_very_long_strategy_名前", "seed 0", 12)
        progress.step(0.0, 5.0)
        clock.now += 1
        progress.step(11.0, 1234567.0)
        progress.epoch(11, "a text that is much longer than there is room for in the column")
        lines = _picture(display)
    assert len(lines) == 2
    assert max(map(cell_len, lines)) <= 80


def test_a_step_costs_microseconds():
    display = Display(Console(file=io.StringIO(), force_terminal=True, width=80, _environ={}))
    with display:
        progress = display.start("full", "seed 1", 3)
        before = len(_written(display))
        started = time.perf_counter()
        for step in range(20_000):
            progress.step(step / 10_000, 21034.0)
        took = time.perf_counter() - started
        drawn = _written(display)[before:].count("seed 1")
    assert took / 20_000 < 100e-6
    assert drawn <= 8 * took + 2  # redraws follow the clock, not the steps


def test_redraws_survive_a_plan_that_changes_under_them(clock):
    """The redraws' thread reads what training changes; an error there would end the thread."""
    display = _display(clock, terminal=True)
    with display:
        display.live.auto_refresh = True
        until = time.monotonic() + 0.6
        while time.monotonic() < until:
            display.plan(_RUNS)
            for job in _RUNS:
                display.start(job.name, job.detail, job.epochs).step(1.0)
            display._running.clear()
        assert display.live._refresh_thread.is_alive()


# --- numbers
