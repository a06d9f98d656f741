"""A function is called again and again, only while the context is open."""

import threading
import time

from flax_agnews.system.heartbeat import every


def test_it_is_called_while_something_else_takes_long():
    called, thrice = [], threading.Event()

    def call():
        called.append(threading.current_thread())
        if len(called) == 3:
            thrice.set()

    with every(0.001, call):
        assert thrice.wait(60)
    number = len(called)
    assert not called[0].is_alive()
    time.sleep(0.01)
    assert len(called) == number >= 3


def test_nothing_is_called_in_a_short_time_and_nothing_waits_for_it():
    called, started = [], time.perf_counter()
    with every(600, lambda: called.append(1)):
        pass
    assert time.perf_counter() - started < 60
    assert called == []


def test_output_that_is_closed_ends_it_quietly(recwarn):
    tried = threading.Event()

    def call():
        tried.set()
        raise BrokenPipeError

    with every(0.001, call):
        assert tried.wait(60)
    assert not recwarn.list  # pytest warns of an error in a thread
