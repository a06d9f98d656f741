"""The lines that are shown while runs compile and train: one an epoch, and one for what went wrong."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score

from flax_agnews.experiment.progress import RunsObserver, compiling, wait_for
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training.history import History, score
from flax_agnews.training.loop import TrainedRun

CLASSES, PER_EPOCH = 4, 60


def shown(seeds):
    file = io.StringIO()
    display = Display(Console(file=file, width=200))
    return RunsObserver(display, "full", seeds, 2, PER_EPOCH, Interrupt()), file


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_how_long_compiling_takes_is_said_where_that_is_long(platform):
    file = io.StringIO()
    with compiling(Display(Console(file=file, width=200)), "full", platform):
        pass
    how_long = " (first on a GPU: a minute or more)" if platform == "gpu" else ""
    assert file.getvalue() == f"compiling full{how_long} ...\n"


@pytest.mark.parametrize("ready", [False, True])
def test_a_program_is_waited_for_in_silence_only_where_it_is_ready(ready):
    waited, file = [], io.StringIO()
    program = SimpleNamespace(
        ready=ready,
        setup=SimpleNamespace(name="full"),
        devices=SimpleNamespace(platform="cpu"),
        wait=lambda: waited.append(file.getvalue()),
    )
    wait_for(program, Display(Console(file=file)))
    assert waited == ["" if ready else "compiling full ...\n"]


def test_one_line_a_run_and_epoch_says_how_many():
    calm = History(val_accuracy=[0.5], skipped=[0], spikes=[0])
    odd = History(val_accuracy=[0.7], skipped=[1], spikes=[3])
    watch, file = shown([7, 8])
    watch.epoch(1, [calm, odd])
    assert file.getvalue().splitlines() == [
        "full 2 seeds from 7  epoch 1/2  val 0.600  best 0.600",
        "full seed 8: 1 update of epoch 1 not finite and left out",
        "full seed 8: 3 loss spikes in epoch 1",
    ]


def test_runs_that_stopped_or_learned_nothing_are_named():
    rng = np.random.default_rng(3)
    labels, logits = rng.integers(0, CLASSES, 200), rng.normal(size=(200, CLASSES)).astype(np.float32)
    answers = [logits, logits + 9 * np.eye(CLASSES, dtype=np.float32)[labels]]
    runs = [None, *(TrainedRun(History(), score(answer, labels), {}, answer, answer) for answer in answers)]
    guessed = accuracy_score(labels, logits.argmax(-1))
    watch, file = shown([7, 8, 9])
    watch.tested(runs, ["at step 3 (loss)", "", ""], majority=guessed)
    first, *notes = file.getvalue().splitlines()
    assert first.endswith(f"test stopped {guessed:.3f} 1.000")
    assert notes == [
        "full seed 7: not finite at step 3 (loss)",
        f"full seed 8: no better than always answering the most frequent class ({guessed:.3f})",
    ]


def test_runs_of_which_none_is_left_end_before_their_time():
    watch, file = shown([7])
    watch.step(0.25, 100.0)
    watch.tested([None], ["at step 3 (loss)"], majority=0.25)
    first, note = file.getvalue().splitlines()
    assert "stopped after" in first
    assert first.endswith("not finite")
    assert note == "full seed 7: not finite at step 3 (loss)"
