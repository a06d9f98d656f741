"""Groups of seeds that train together: their texts, arrangements, and whether two groups ended alike."""

import numpy as np

from flax_agnews.training.checkpoint import Store
from flax_agnews.training.lane import Lane
from flax_agnews.training.loop import train_runs
from flax_agnews.training.observer import Observer
from flax_agnews.training.saving import Saving
from support.strategy_setups import SPLIT

__all__ = ["SPLIT"]

SEEDS = (0, 1, 2)


ARRANGEMENTS = {  # devices, mode, tokens of a micro-batch
    "one": (1, "jit", 16384),
    "jit-2-micro": (2, "jit", 300),
    "pmap-2": (2, "pmap", 16384),
}


EPOCHS, PER_EPOCH = 3, 5


class StopAt(Observer):
    """Asks to stop after an update, counted over the run; notes where a run goes on."""

    def __init__(self, step=0):
        self.step_asked, self.done, self.went_on = step, 0.0, []

    def step(self, epochs_done, tokens_per_second):
        self.done = epochs_done * PER_EPOCH

    def should_stop(self):
        # asked before `step` is told of the update
        return round(self.done) + 1 == self.step_asked

    def resumed(self, step, inexact):
        assert inexact is None
        self.went_on.append(step)


def lanes_in(folder):
    return [Lane(seed, Store(folder / str(seed), keep=2), folder / f"{seed}.jsonl") for seed in (0, 1)]


def trained(pair, folder, watch=None, epochs=EPOCHS):
    return train_runs(pair, lanes_in(folder), epochs, saving=Saving(every_steps=PER_EPOCH), observer=watch)


def assert_ended_alike(folder, runs, uninterrupted):
    reference_folder, reference = uninterrupted
    for seed, ours, theirs in zip((0, 1), runs, reference, strict=True):
        assert (folder / f"{seed}.jsonl").read_bytes() == (reference_folder / f"{seed}.jsonl").read_bytes()
        assert ours.logits.tobytes() == theirs.logits.tobytes()
        assert ours.val_logits.tobytes() == theirs.val_logits.tobytes()
        assert {p: np.asarray(v).tobytes() for p, v in ours.params.items()} == {
            p: np.asarray(v).tobytes() for p, v in theirs.params.items()
        }
        for name in ("train_loss", "val_loss", "val_accuracy", "best_epoch", "tokens", "lines"):
            assert getattr(ours.history, name) == getattr(theirs.history, name), name
