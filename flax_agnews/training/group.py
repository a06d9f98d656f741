"""Runs of a strategy that train together in one program, a seed each: what each has for itself, and what they share."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.models.parameters import Parameters
from flax_agnews.tracking import NullTracker, Tracker
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.history import History, Journal
from flax_agnews.training.program import Program
from flax_agnews.training.state import TrainState, all_finite, stack


class Lane:
    """One run: its seed, its numbers, and where they and its weights are kept.

    Args:
        seed: decides head, adapter, batches and dropout.
        store: checkpoints; without it, the best weights stay in memory and nothing can be resumed.
        metrics_path: JSON lines, one an update and one an epoch.
        tracker: other places for metrics.
        skip: whether the run goes on without updates that are not finite; else the first one ends it.
    """

    def __init__(
        self,
        seed: int,
        store: Store | None = None,
        metrics_path: Path | None = None,
        tracker: Tracker | None = None,
        skip: bool = False,
    ) -> None:
        self.seed, self.store, self.tracker, self.skip = seed, store, tracker or NullTracker(), skip
        self._metrics_path = metrics_path
        self._best: Parameters | None = None

    def begin(self, history: History, steps_per_epoch: int, classes: int) -> None:
        """Starts, or goes on from, a history."""
        self.history = history
        self.journal = Journal(history, steps_per_epoch, classes, self._metrics_path, self.tracker)

    @property
    def fault(self) -> str:
        """Where the run stopped, and what was not finite, in words; empty as long as it goes on."""
        first = "" if self.skip else self.history.first_skipped
        return first or self.history.fault

    def save(self, state: TrainState) -> None:
        """Where there is a store: all that the run goes on from."""
        if self.store:
            self.store.save(int(state.step), state, asdict(self.history))

    def keep_best(self, params: Parameters) -> None:
        """On disk where there is a store; else a copy, since the next update gives the state's memory away."""
        if self.store:
            self.store.save_best(params, self.history.best_epoch)
        else:
            self._best = {path: value.copy() for path, value in params.items()}

    def best(self, example: Parameters) -> Parameters:
        """The best epoch's trainable leaves, which look like `example`."""
        if self._best is not None:
            return self._best
        assert self.store is not None
        return self.store.restore_best(example, self.history.best_epoch)


class AllDiverged(Exception):
    """Of runs that train together none is left whose numbers are finite."""


class Group:
    """Runs that train together, from the newest state that all of them have saved.

    A run that has a fault is computed, noted and saved like the others as long as one of them has none, so that all
    can be resumed from one step; it is no result in the end.

    Args:
        program: the compiled strategy.
        lanes: the runs.

    Attributes:
        step: updates so far.
        state, frozen: of all runs, as `Program.start_together` has them.
    """

    def __init__(self, program: Program, lanes: Sequence[Lane]) -> None:
        self.program, self.lanes = program, lanes
        self.seeds = [lane.seed for lane in lanes]
        self.state, self.frozen = program.start_together(self.seeds)
        self.step = _saved_by_all(lanes)
        histories = self._restore() if self.step else [History() for _ in lanes]
        for lane, history in zip(lanes, histories, strict=True):
            lane.begin(history, program.batches.steps_per_epoch, program.setup.classes)

    def _restore(self) -> list[History]:
        example, _ = self.one(0)
        saved = [lane.store.restore(self.step, example) for lane in self.lanes if lane.store]
        self.state = self.program.devices.state(stack([state for state, _ in saved]))
        return [History(**notes) for _, notes in saved]

    def update(self, epoch: int, index: int) -> dict[str, Any]:
        """The update `index` of an epoch, of every run; metrics stay on the device until somebody reads them."""
        self.state, metrics = self.program.train_together(self.state, self.frozen, self.seeds, epoch, index)
        self.step += 1
        return metrics

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Notes an update's time, an equal share for each run, and its tokens; returns the tokens of all runs."""
        batches, counts = self.program.batches, []
        for lane in self.lanes:
            counts.append(int(self.program.lengths[batches.rows(lane.seed, epoch, index)].sum()))
            lane.history.tokens += counts[-1]
            lane.history.train_seconds += seconds / len(self.lanes)
        return sum(counts)

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """An update's metrics, into each run's journal; `step` counts from 1. `AllDiverged` as `check` has it."""
        values = {name: np.atleast_1d(value) for name, value in metrics.items()}
        for number, lane in enumerate(self.lanes):
            lane.journal.update(step, {name: value[number] for name, value in values.items()})
        self.check()

    def check(self) -> None:
        """Raises `AllDiverged` where every run has a fault: then nothing may be saved any more."""
        if all(lane.fault for lane in self.lanes):
            raise AllDiverged

    def one(self, number: int) -> tuple[TrainState, Parameters]:
        """(state, frozen) of one of the runs, as it has them alone on one device."""
        return self.program.alone(self.state, self.frozen, number, len(self.lanes))

    def save(self) -> None:
        """Saves every run, if a transformation of the strategy's own has not made all weights useless."""
        for number, lane in enumerate(self.lanes):
            if not all_finite(self.one(number)[0].params):
                lane.history.end(f"at step {self.step} (weights)")
        self.check()
        for number, lane in enumerate(self.lanes):
            lane.save(self.one(number)[0])


def _saved_by_all(lanes: Sequence[Lane]) -> int:
    """The newest step whose state all runs have saved; 0 where there is none."""
    steps = [set(lane.store.steps) if lane.store else set() for lane in lanes]
    return max(set.intersection(*steps), default=0)
