"""A run, from top to bottom: train an epoch, evaluate it, keep the best, save; at the end, test the best once."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from flax_agnews import statistics
from flax_agnews.models.parameters import Parameters
from flax_agnews.tracking import MetricsFile, Tracker
from flax_agnews.training import memory
from flax_agnews.training.checkpoint import Store
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


@dataclass
class Scores:
    """How well a split was classified.

    Attributes:
        loss: mean cross-entropy, nats.
        accuracy, macro_f1: 0 to 1.
        confusion: [true class][answered class] counts.
    """

    loss: float
    accuracy: float
    macro_f1: float
    confusion: list[list[int]]


@dataclass
class History:
    """What a run has been through: JSON-able, saved with every checkpoint.

    Attributes:
        train_loss, train_accuracy: of each epoch's batches as they trained, dropout on.
        val_loss, val_accuracy, val_macro_f1: after each epoch.
        best_epoch: the epoch (from 1) with the best validation accuracy, the earliest of equals; 0 before any.
        partial: sums of the epoch under way: loss, correct, weight.
        lines: of the metrics file that belong to the state.
        train_seconds: spent on updates, compilation and evaluation apart.
        epoch_seconds: the same by epoch.
        tokens: real ones, trained on.
        peak_memory_bytes: the most so far.
    """

    train_loss: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    val_macro_f1: list[float] = field(default_factory=list)
    best_epoch: int = 0
    partial: dict[str, float] = field(default_factory=dict)
    lines: int = 0
    train_seconds: float = 0.0
    epoch_seconds: list[float] = field(default_factory=list)
    tokens: int = 0
    peak_memory_bytes: int | None = None


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
    metrics = MetricsFile(metrics_path, keep=history.lines) if metrics_path else None
    best: Parameters | None = None

    def save(state: TrainState) -> None:
        history.lines = metrics.lines if metrics else 0
        if store:
            store.save(int(program.devices.first(state.step)), program.devices.first(state), asdict(history))

    for epoch in range(len(history.val_loss), epochs):
        state = _train_epoch(program, state, frozen, seed, epoch, history, every_steps, save, metrics, tracker, watch)
        params = program.devices.first(state.params)
        scores = score(program.evaluate(state.params, frozen, "validation"), program.evaluated["validation"].labels)
        if _record(history, scores):
            best = _keep_best(store, params, epoch + 1)
        _log_epoch(history, epoch, metrics, tracker, program.batches.steps_per_epoch)
        history.peak_memory_bytes = (
            max(history.peak_memory_bytes or 0, memory.peak_bytes(program.devices.devices) or 0) or None
        )
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
    history: History,
    every_steps: int,
    save: Callable[[TrainState], None],
    metrics: MetricsFile | None,
    tracker: Tracker | None,
    watch: Watch,
) -> TrainState:
    """The updates of an epoch that are still to do. Each update's metrics are read while the next one runs."""
    per_epoch = program.batches.steps_per_epoch
    first = int(program.devices.first(state.step)) - epoch * per_epoch
    started, tokens_before, seconds_before = time.perf_counter(), history.tokens, history.train_seconds
    waiting: tuple[int, Mapping[str, Any]] | None = None

    def take(step: int, values: Mapping[str, Any]) -> None:
        numbers = {name: float(value) for name, value in values.items()}
        for name in ("loss", "correct", "weight"):
            history.partial[name] = history.partial.get(name, 0.0) + numbers[name]
        record = {
            "batch/train_loss": numbers["loss"] / numbers["weight"],
            "batch/grad_norm": numbers["grad_norm"],
        }
        if metrics:
            metrics.write({"step": step + 1, **record})
        if tracker:
            tracker.log(record, step + 1)
        elapsed = time.perf_counter() - started
        watch.step((step + 1) / per_epoch, (history.tokens - tokens_before) / max(elapsed, 1e-9))

    for index in range(first, per_epoch):
        state, values = program.train_step(state, frozen, seed, epoch, index)
        history.tokens += int(program.batches.data.lengths[program.batches.rows(seed, epoch, index)].sum())
        if waiting:
            take(*waiting)
        waiting = (epoch * per_epoch + index, values)
        stop, last = watch.should_stop(), index == per_epoch - 1
        due = every_steps and (index + 1) % every_steps == 0 and not last
        if stop or due or last:
            take(*waiting)
            waiting = None
            history.train_seconds = seconds_before + time.perf_counter() - started
        if (stop or due) and not last:
            save(state)
            started, seconds_before, tokens_before = (
                time.perf_counter(),
                history.train_seconds,
                history.tokens,
            )
        if stop and not last:
            raise Interrupted(int(program.devices.first(state.step)))
    return state


def score(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Loss, accuracy, macro-F1 and confusion matrix of logits [texts, classes] against labels [texts]."""
    answers = logits.argmax(-1)
    losses = -log_softmax(logits.astype(np.float64), axis=-1)[np.arange(len(labels)), labels]
    return Scores(
        loss=float(losses.mean()),
        accuracy=float(statistics.accuracy(labels, answers)),
        macro_f1=float(statistics.macro_f1(labels, answers, logits.shape[1])),
        confusion=np.asarray(statistics.confusion(labels, answers, logits.shape[1])).astype(int).tolist(),
    )


def _record(history: History, validation: Scores) -> bool:
    """Closes an epoch in the history; whether it is the best so far."""
    sums = history.partial
    history.train_loss.append(sums["loss"] / sums["weight"])
    history.train_accuracy.append(sums["correct"] / sums["weight"])
    better = not history.val_accuracy or validation.accuracy > max(history.val_accuracy)
    history.val_loss.append(validation.loss)
    history.val_accuracy.append(validation.accuracy)
    history.val_macro_f1.append(validation.macro_f1)
    history.partial = {}
    history.epoch_seconds.append(history.train_seconds - sum(history.epoch_seconds))
    if better:
        history.best_epoch = len(history.val_accuracy)
    return better


def _keep_best(store: Store | None, params: Parameters, epoch: int) -> Parameters | None:
    """On disk where there is a store; else a copy, since the next update gives the state's memory away."""
    if store:
        store.save_best(params, epoch)
        return None
    return {path: value.copy() for path, value in params.items()}


def _log_epoch(
    history: History, epoch: int, metrics: MetricsFile | None, tracker: Tracker | None, steps_per_epoch: int
) -> None:
    record = {
        "train/loss": history.train_loss[-1],
        "train/accuracy": history.train_accuracy[-1],
        "val/loss": history.val_loss[-1],
        "val/accuracy": history.val_accuracy[-1],
        "val/macro_f1": history.val_macro_f1[-1],
    }
    if metrics:
        metrics.write({"epoch": epoch + 1, **record})
    if tracker:
        tracker.log({**record, "epoch_time": history.epoch_seconds[-1]}, (epoch + 1) * steps_per_epoch)
