"""Checkpoints in the background: failures, intervals, and what a crash can lose."""

import threading
import time
from pathlib import Path

import pytest
from support.checkpoints import notes, state

from flax_agnews.training.checkpoint import Store, newest
from flax_agnews.training.saving import Saving


def test_a_failed_save_is_told_at_once_and_stops_none_of_the_later_ones(tmp_path: Path) -> None:
    """A file where the folder should be: a real error of the system."""
    told: list[str] = []
    store, saving = Store(tmp_path / "checkpoints"), Saving(every_steps=1, note=told.append)
    saving.begin(48)
    (tmp_path / "checkpoints").write_text("in the way")
    saving.save("step 1", lambda: [lambda sign: store.save(1, state(1), notes(), sign)])
    assert not saving.wait()
    [line] = told
    assert line.startswith("step 1 could not be saved (")
    assert "goes on" in line
    (tmp_path / "checkpoints").unlink()
    saving.save("step 2", lambda: [lambda sign: store.save(2, state(2), notes(), sign)])
    assert saving.wait()
    assert newest([Store(store.folder)]) == 2


def test_training_goes_on_while_a_save_is_written() -> None:
    saving, gate, written = Saving(share=0.5), threading.Event(), []
    saving.begin(0)
    saving.save("a state", lambda: [lambda sign: gate.wait() and None, lambda sign: written.append(1)])
    assert not saving.due(1)  # not before it is written
    assert not written
    gate.set()
    assert saving.wait()
    assert written == [1]


@pytest.mark.parametrize("share", [0.01, 0.25])
def test_saves_are_as_rare_as_they_are_dear(share: float) -> None:
    """Each is followed by at least its cost divided by the share, until the next."""
    saving = Saving(share=share)
    saving.begin(0)
    saving.save("a state", lambda: [lambda sign: time.sleep(0.02)])
    saving.wait()
    assert saving.cost >= 0.02
    assert saving.interval == pytest.approx(saving.cost / share)
    started = time.perf_counter()
    while not saving.due(1):
        time.sleep(0.001)
    waited = time.perf_counter() - started
    assert waited + 0.5 * saving.cost >= saving.interval - saving.cost


def test_what_a_crash_can_lose_is_told_before_it_can_happen() -> None:
    told: list[str] = []
    Saving(share=0.01, note=told.append).begin(1_200_000_000)  # 6 s at the first guess of 200 MB a second
    assert told == ["1.2 GB are saved about every 10 min, the most that a crash can lose"]
