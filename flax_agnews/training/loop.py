"""A run, from top to bottom: train an epoch, evaluate it, keep the best, save; at the end, test the best once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.models.parameters import Parameters
from flax_agnews.tracking import Tracker
from flax_agnews.training import memory
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.history import History, Journal, Scores, score
from flax_agnews.training.program import Program
from flax_agnews.training.state import TrainState


class Interrupted(Exception):
    """A run was asked to stop, and has saved where it was.

    Attributes:
        step: updates that are saved, 0 where there are none.
    """

    def __init__(self, step: int) -> None:
        super().__init__(step)
        self.step = step


class Watch:
    """What a run tells those who look on; the default is silence."""

    def step(self, epochs_done: float, tokens_per_second: float) -> None:
        """After every update."""

    def epoch(self, epoch: int, history: History) -> None:
        """After every epoch's evaluation."""

    def resumed(self, step: int) -> None:
        """When a saved state is taken up."""

    def should_stop(self) -> bool:
        """Whether to save and stop after this update."""
        return False


@dataclass
class Run:
    """A finished run.

    Attributes:
        history: by epoch.
        test: scores of the best-on-validation weights on the test split.
        params: these weights, the trainable leaves.
        logits: theirs, of the test split: [texts, classes].
    """

    history: History
    test: Scores
    params: Parameters
    logits: np.ndarray


def fit(
    program: Program,
    seed: int,
    epochs: int,
    *,
    store: Store | None = None,
    every_steps: int = 0,
    metrics_path: Path | None = None,
    tracker: Tracker | None = None,
    watch: Watch | None = None,
) -> Run:
    """Trains one strategy from one seed, from where its checkpoints left off.

    Args:
        program: the compiled strategy.
        seed: decides head, adapter, batches and dropout.
        epochs: passes over the training texts.
        store: checkpoints; without it, the best weights stay in memory and nothing can be resumed.
        every_steps: saves inside an epoch, 0 for none.
        metrics_path: JSON lines, one an update and one an epoch.
        tracker: other places for metrics.
        watch: for displays and interruption.

    Raises:
        Interrupted: `watch` asked to stop; the state is saved.
    """
    watch = watch or Watch()
    memory.reset_peak()
    state, frozen, history = _begin(program, seed, store, watch)
    journal = Journal(history, program.batches.steps_per_epoch, metrics_path, tracker)
    best: Parameters | None = None

    def save(state: TrainState) -> None:
        if store:
            store.save(int(program.devices.first(state.step)), program.devices.first(state), asdict(history))

    for epoch in range(len(history.val_loss), epochs):
        state = _train_epoch(program, state, frozen, seed, epoch, journal, every_steps, save, watch)
        scores = score(program.evaluate(state.params, frozen, "validation"), program.evaluated["validation"].labels)
        if journal.epoch(scores):
            best = _keep_best(store, program.devices.first(state.params), epoch + 1)
        peaks = (history.peak_memory_bytes or 0, memory.peak_bytes(program.devices.devices) or 0)
        history.peak_memory_bytes = max(peaks) or None
        watch.epoch(epoch + 1, history)
        save(state)
    if best is None:
        assert store is not None
        best = store.restore_best(program.devices.first(state.params), history.best_epoch)
    logits = program.evaluate(program.devices.state(best), frozen, "test")
    return Run(history, score(logits, program.evaluated["test"].labels), best, logits)


def _begin(program: Program, seed: int, store: Store | None, watch: Watch) -> tuple[TrainState, Parameters, History]:
    """A run's first state, or the one that it left off with."""
    state, frozen = program.start(seed)
    saved = store.restore(program.devices.first(state)) if store else None
    if saved is None:
        return state, frozen, History()
    state = program.devices.state(saved[0])
    watch.resumed(int(saved[0].step))
    return state, frozen, History(**saved[1])


def _train_epoch(
    program: Program,
    state: TrainState,
    frozen: Parameters,
    seed: int,
    epoch: int,
    journal: Journal,
    every_steps: int,
    save: Callable[[TrainState], None],
    watch: Watch,
) -> TrainState:
    """The updates of an epoch that are still to do. Each update's metrics are read while the next one runs."""
    per_epoch, history, lengths = program.batches.steps_per_epoch, journal.history, program.batches.data.lengths
    first = int(program.devices.first(state.step)) - epoch * per_epoch
    started, tokens, seconds = time.perf_counter(), 0, history.train_seconds
    waiting: tuple[int, Mapping[str, Any]] | None = None
    for index in range(first, per_epoch):
        state, values = program.train_step(state, frozen, seed, epoch, index)
        read = int(lengths[program.batches.rows(seed, epoch, index)].sum())
        tokens, history.tokens = tokens + read, history.tokens + read
        if waiting:
            journal.update(*waiting)
        waiting = (epoch * per_epoch + index + 1, values)
        stop, last = watch.should_stop(), index == per_epoch - 1
        due = every_steps and (index + 1) % every_steps == 0
        if stop or due or last:  # everything is read, so that the saved history is complete
            journal.update(*waiting)
            waiting = None
        elapsed = time.perf_counter() - started
        history.train_seconds = seconds + elapsed
        watch.step(epoch + (index + 1) / per_epoch, tokens / elapsed)
        if (stop or due) and not last:
            save(state)
            started, tokens, seconds = time.perf_counter(), 0, history.train_seconds
            if stop:
                raise Interrupted(int(program.devices.first(state.step)))
    return state


def _keep_best(store: Store | None, params: Parameters, epoch: int) -> Parameters | None:
    """On disk where there is a store; else a copy, since the next update gives the state's memory away."""
    if store:
        store.save_best(params, epoch)
        return None
    return {path: value.copy() for path, value in params.items()}
