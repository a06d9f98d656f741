"""Writes that hang are noticed and reported, nothing waits for them, and they change nothing when they go on later.

Three ways to hang: TensorStore itself in the kernel (`hanging.Pipes`), a call of ours in the kernel, opening a pipe at
whose other end nobody is, and a thread that sleeps.
"""

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.hanging import Pipes
from support.small_experiments import small

from flax_agnews.errors import UserError
from flax_agnews.main import main
from flax_agnews.runs import sealed
from flax_agnews.training import checkpoint
from flax_agnews.training.checkpoint import Store, newest
from flax_agnews.training.saving import Saving, Sign

HANGS = """
import atexit, sys, time
import numpy as np
from pathlib import Path
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.saving import Saving

store, saving = Store(Path(sys.argv[1])), Saving(every_steps=1, patience=1.0, note=lambda text: print(text, flush=True))
tree = {str(leaf): np.full((30, 4), leaf, "float32") for leaf in range(30)}
for step in (1, 2):
    saving.save(f"step {step}", lambda: [lambda sign: store.save(step, tree, {"best_epoch": 0}, sign)])
    began = time.monotonic()
    print(step, saving.wait(), time.monotonic() - began < 10)
print(store.steps, len(list(store.folder.glob(".*.draft"))))
atexit.register(print, "the exit went its way")
sys.exit(3)
"""


def test_a_write_of_tensorstore_that_hangs_is_given_up_and_neither_the_next_nor_the_exit_waits(tmp_path: Path) -> None:
    """The draft stays as long as somebody may write in it, and is swept by the next process."""
    with Pipes(tmp_path, "checkpoints/.step-*.draft") as pipes:
        command = [sys.executable, "-c", HANGS, str(tmp_path / "checkpoints")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
        assert done.returncode == 3, done.stdout + done.stderr
        assert done.stdout.splitlines() == [
            "step 1 could not be saved (nothing was written for 1 s: the disk may be full, or gone); "
            "goes on, with the saves that there are",
            "1 False True",
            "2 True True",
            "[2] 1",
            "the exit went its way",
        ]
        assert done.stderr == ""
        [draft] = pipes.caught
    assert draft.is_dir()
    Store(tmp_path / "checkpoints").finish(0)
    assert not draft.exists()


class Hang:
    """Has one call of a function hang in the kernel, until it is let go; it does its work then."""

    def __init__(
        self, patch: pytest.MonkeyPatch, folder: Path, owner: Any, name: str, when: Callable[..., bool]
    ) -> None:
        self.pipe, self.function, self.when = folder / "pipe", getattr(owner, name), when
        self.thread: threading.Thread | None = None
        os.mkfifo(self.pipe)
        patch.setattr(owner, name, self)

    def __call__(self, *args: Any) -> Any:
        if not self.thread and self.when(*args):
            self.thread = threading.current_thread()
            self.pipe.read_bytes()
        return self.function(*args)

    def let_go(self) -> None:
        """And waits until the thread has ended."""
        self.pipe.write_bytes(b"")
        assert self.thread
        self.thread.join(20)
        assert not self.thread.is_alive()


def _state(value: float) -> dict[str, np.ndarray]:
    return {"params": np.full((3, 4), value, np.float32)}


def _writes(store: Store, step: int, epoch: int, value: float) -> list[Callable[[Sign], None]]:
    """As a run's: its best weights, then its state, which counts on them."""
    return [
        lambda sign: store.save_best(_state(value), epoch, {}, sign),
        lambda sign: store.save(step, _state(value), {"best_epoch": epoch}, sign),
    ]


PLACES: dict[str, tuple[Any, str, Callable[..., bool]]] = {
    "writing the best weights": (checkpoint, "_save", lambda draft, *_: "best-epoch-2" in draft.name),
    "writing the state": (checkpoint, "_save", lambda draft, *_: "step-00000020" in draft.name),
    "syncing": (sealed, "sync", lambda path: "step-00000020" in str(path)),
    "dropping the state before": (sealed, "discard", lambda folder: folder.name == "step-00000010"),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_write_that_comes_to_life_later_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """It has other numbers for the same best weights than those that were saved since."""
    told: list[str] = []
    store, saving = Store(tmp_path / "checkpoints", keep=1), Saving(every_steps=1, patience=0.5, note=told.append)
    saving.save("step 10", lambda: _writes(store, 10, 1, 1.0))
    assert saving.wait()
    hang = Hang(monkeypatch, tmp_path, *PLACES[place])
    saving.save("step 20", lambda: _writes(store, 20, 2, 2.0))
    assert not saving.wait()
    for step, epoch, value in ((30, 2, 3.0), (40, 4, 4.0)):
        saving.save(f"step {step}", lambda: _writes(store, step, epoch, value))  # noqa: B023
        assert saving.wait()
    cost, names = saving.cost, {path.name for path in store.folder.iterdir() if path.name[0] != "."}
    assert names == {"step-00000040", "best-epoch-4"}
    hang.let_go()
    assert {path.name for path in store.folder.iterdir()} == names  # its draft has gone
    again = Store(store.folder)
    assert newest([again]) == 40
    assert again.restore(40, _state(0))[0]["params"].tolist() == _state(4.0)["params"].tolist()
    assert again.restore_best(_state(0), 4)["params"].tolist() == _state(4.0)["params"].tolist()
    assert [line[:28] for line in told] == ["step 20 could not be saved ("]
    assert saving.wait()
    assert saving.cost == cost


def test_a_write_that_is_slow_is_no_write_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes three times the patience, and all the while a file grows."""

    def slow(draft: Path, *_: object) -> None:
        with (draft / "file").open("wb", buffering=0) as file:
            for _ in range(30):
                file.write(b"more")
                time.sleep(0.1)

    monkeypatch.setattr(checkpoint, "_save", slow)
    saving = Saving(every_steps=1, patience=1.0)
    saving.save("a state", lambda: [lambda sign: Store(tmp_path).save(1, {}, {}, sign)])
    assert saving.wait()
    assert (tmp_path / "step-00000001" / "file").stat().st_size == 120


def test_of_writes_that_hang_there_are_two_at_most() -> None:
    """Each holds a copy of the state. A third isn't copied, and fails at once."""
    gate, told, copied = threading.Event(), list[str](), list[int]()
    saving = Saving(every_steps=1, patience=0.2, note=told.append, name="full")

    def copy() -> list[Callable[[Sign], None]]:
        copied.append(1)
        return [lambda sign: gate.wait() and None]

    for step in (1, 2, 3):
        saving.save(f"step {step}", copy)
        assert not saving.wait()
    assert len(copied) == 2
    assert told[2] == (
        "full: step 3 could not be saved (2 writes before it still hang); goes on, with the saves that there are"
    )
    assert saving.finish("the best weights", copy()) == "2 writes before it still hang"
    gate.set()


def test_weights_that_hang_at_the_end_are_reported_and_not_waited_for() -> None:
    gate = threading.Event()
    saving = Saving(patience=0.2)
    began = time.monotonic()
    assert saving.finish("the best weights", [lambda sign: gate.wait() and None]).startswith("nothing was written for ")
    assert time.monotonic() - began < 10
    assert saving.finish("the best weights", [lambda sign: None]) == ""
    gate.set()


@pytest.mark.parametrize("stop", [False, True])
def test_a_failure_stops_training_only_where_the_settings_say_so(stop: bool) -> None:
    """Also where another save has begun before training could stop: that one is finished first."""
    saving, written = Saving(every_steps=1, stop=stop, name="full"), list[int]()
    saving.begin(0)
    saving.check()
    saving.save("step 1", lambda: [lambda sign: Path(os.devnull, "file").unlink()])
    saving.wait()
    saving.save("step 2", lambda: [lambda sign: time.sleep(0.2), lambda sign: written.append(2)])
    if not stop:
        saving.check()
        return
    with pytest.raises(UserError, match=r"^full: step 1 could not be saved \(.*Not a directory.*on_failure is stop"):
        saving.check()
    assert written == [2]
    saving.begin(0)  # another run
    saving.check()


def test_a_comparison_stops_where_a_save_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file where a folder should be: a real error of the system."""
    flags = ("--strategy", "head", "--train.runs", 1, "--train.batch_size", 4, "--checkpoint.every_steps", 5)
    (tmp_path / "head" / "seed-42").mkdir(parents=True)
    (tmp_path / "head" / "seed-42" / "checkpoints").write_text("in the way")
    assert main(small(tmp_path, *flags, "--checkpoint.on_failure", "stop")) == 2
    said = capsys.readouterr()
    [line] = said.err.splitlines()
    assert re.fullmatch(
        r"error: head: step 5 could not be saved \(.*\), and --checkpoint.on_failure is stop\. .*", line
    )
    assert said.out.count("could not be saved") == 1
    assert "stops after this update" in said.out
