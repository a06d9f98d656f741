"""Runs of a strategy that train together in one program, a seed each: what each has for itself, and what they share."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from flax_agnews.errors import UserError, listed
from flax_agnews.metrics.tracking import NullTracker, Tracker
from flax_agnews.models.parameters import Parameters
from flax_agnews.training.checkpoint import Store, all_finite, newest, snapshot
from flax_agnews.training.exactness import inexact
from flax_agnews.training.history import History, Journal
from flax_agnews.training.processes import first_before_others, is_first, of_first
from flax_agnews.training.program import Program
from flax_agnews.training.saving import Refused, Saving, Sign, Write
from flax_agnews.training.state import TrainState, stack


class Lane:
    """One run: its seed, its numbers, and where they and its weights are kept.

    Args:
        seed: decides head, adapter, batches and dropout.
        store: checkpoints; without it, the best weights stay in memory and nothing can be resumed.
        metrics_path: JSON lines, one an update and one an epoch.
        tracker: other places for metrics.
        identity: what it is a run of; saved with every checkpoint, and the same where one is taken up.
        circumstances: what its last digits depend on besides.
        writes: into the store; of several processes, only the first does.
        skip: whether the run goes on without updates that are not finite; else the first one ends it.
        patience: epochs without a better validation accuracy after which the run ends early; None: never.
        about: kept with its best weights, for those who use them later.
    """

    def __init__(
        self,
        seed: int,
        store: Store | None = None,
        metrics_path: Path | None = None,
        tracker: Tracker | None = None,
        identity: Mapping[str, str] | None = None,
        circumstances: Mapping[str, str] | None = None,
        writes: bool = True,
        skip: bool = False,
        about: Mapping[str, Any] | None = None,
        patience: int | None = None,
    ) -> None:
        self.seed, self.store, self.tracker = seed, store, tracker or NullTracker()
        self.writes, self.skip, self.patience = writes, skip, patience
        self.identity, self.circumstances = dict(identity or {}), dict(circumstances or {})
        self._metrics_path, self._about = metrics_path, dict(about or {})
        self._best: Parameters | None = None  # since this process began
        self._best_saved = 0  # epoch

    def begin(self, history: History, steps_per_epoch: int, classes: int, settled: int = 0) -> None:
        """Starts, or goes on from, a history.

        Args:
            history: so far.
            steps_per_epoch: updates an epoch.
            classes: how many.
            settled: epochs before the strategy's last stage; those until then don't count for patience.
        """
        self.history, self._settled = history, settled
        self.journal = Journal(history, steps_per_epoch, classes, self._metrics_path, self.tracker)

    @property
    def fault(self) -> str:
        """Where the run stopped, and what was not finite, in words; empty as long as it goes on."""
        first = "" if self.skip else self.history.first_skipped
        return first or self.history.fault

    @property
    def ended(self) -> bool:
        """Whether the run has ended early, without a fault: its numbers stay, whatever becomes of its state."""
        if self.patience is None or self.fault:
            return False
        return len(self.history.val_accuracy) - max(self.history.best_epoch, self._settled) >= self.patience

    @property
    def over(self) -> bool:
        """Whether the run goes on no more, for either reason."""
        return self.ended or bool(self.fault)

    def resume(
        self, step: int, example: TrainState, later: Collection[str] = ()
    ) -> tuple[TrainState, History, str | None]:
        """A saved state (`later` as in `Store.restore`), its history, and why what follows isn't exact, if it isn't."""
        assert self.store is not None
        state, notes = self.store.restore(step, example, later)
        other = [name for name in self.identity if notes["identity"].get(name) != self.identity[name]]
        if other:
            raise UserError(f"{self.store.folder}: is of a run with other {listed(other)}")
        self._best_saved = notes["best_epoch"]
        if later and self._best_saved and not self.store.best_is_whole(example.params, self._best_saved):
            self._best = snapshot(self.store.restore_best(example.params, self._best_saved, later))
            self._best_saved = 0  # they are of a shorter plan, in which fewer leaves trained: written anew, whole
        return state, History(**notes["history"]), inexact(notes["circumstances"], self.circumstances)

    def writing(self, store: Store, state: TrainState) -> list[Write]:
        """Calls that write all that the run goes on from: first the best weights, which the state counts on.

        Args:
            store: the run's.
            state: a copy.
        """
        notes = {
            "identity": self.identity,
            "circumstances": self.circumstances,
            "best_epoch": self.history.best_epoch,
            "history": asdict(self.history),
        }
        best = partial(self._save_best, self.history.best_epoch, self._best)
        step = int(state.step)
        return [best, lambda sign: store.save(step, state, notes, sign)]

    def keep_best(self, params: Parameters) -> None:
        """Copies the best weights so far, since the next update gives the state's memory away."""
        self._best = snapshot(params)

    def best(self, example: Parameters) -> Parameters:
        """The best epoch's trainable leaves, which look like `example`."""
        if self._best is not None:
            return self._best
        store = self.store
        assert store is not None
        return first_before_others(lambda: store.restore_best(example, self.history.best_epoch))

    def finish(self, saving: Saving | None) -> None:
        """Writes the best weights, where they aren't yet; a `UserError` where they can't be."""
        if self.store and saving:
            best = partial(self._save_best, self.history.best_epoch, self._best)
            if failed := saving.finish("the best weights", [best]):
                raise UserError(f"{self.store.folder}: weights can't be saved ({failed})")

    def _save_best(self, epoch: int, params: Parameters | None, sign: Sign) -> None:
        if self.store and self.writes and params is not None and epoch != self._best_saved:
            self.store.save_best(params, epoch, self._about, sign)
            self._best_saved = epoch


class AllDiverged(Exception):
    """Of runs that train together, and haven't ended early, none is left whose numbers are finite."""


class Group:
    """Runs that train together, from the newest state that all of them have saved.

    A run that has a fault is computed, noted and saved like the others as long as one of them has none, so that all
    can be resumed from one step; it is no result in the end. So is one that has ended early, but for being noted.

    Args:
        program: the compiled strategy.
        lanes: the runs.

    Attributes:
        step: updates so far.
        state, frozen: of all runs, as `Program.start_together` has them.
        inexact: why what follows a resumed state isn't exact to the last digit; None where it is.
    """

    inexact: str | None = None

    def __init__(self, program: Program, lanes: Sequence[Lane]) -> None:
        self.program, self.lanes = program, lanes
        self.seeds = [lane.seed for lane in lanes]
        self.state, self.frozen = program.start_together(self.seeds)
        self.step = of_first(self._newest() if is_first() else 0)
        histories = self._restore() if self.step else [History() for _ in lanes]
        settled = max((span.first for span in program.setup.spans), default=0)
        for lane, history in zip(lanes, histories, strict=True):
            lane.begin(history, program.batches.steps_per_epoch, program.setup.model.classes, settled)

    def _newest(self) -> int:
        """The newest step whose state all runs have sound; what only some of them have after it is dropped."""
        stores = [lane.store for lane in self.lanes if lane.store]
        step = newest(stores)
        for store in stores:
            store.drop_after(step)
        return step

    def _restore(self) -> list[History]:
        later = self.program.setup.untrained(self.step, self.program.batches.steps_per_epoch)
        examples = [self.one(number)[0] for number in range(len(self.lanes))]
        pairs = list(zip(self.lanes, examples, strict=True))
        saved = first_before_others(lambda: [lane.resume(self.step, example, later) for lane, example in pairs])
        self.state = self.program.devices.state(stack([state for state, _, _ in saved]))
        self.inexact = next((reason for _, _, reason in saved if reason), None)
        return [history for _, history, _ in saved]

    def update(self, epoch: int, index: int) -> dict[str, Any]:
        """The update `index` of an epoch, of every run; metrics stay on the device until somebody reads them."""
        self.state, metrics = self.program.train_together(self.state, self.frozen, self.seeds, epoch, index)
        self.step += 1
        return metrics

    def count(self, epoch: int, index: int, seconds: float) -> int:
        """Notes an update's time, an equal share for each run that goes on, and its tokens; returns those of all."""
        batches, counts = self.program.batches, []
        going = self.going
        for lane in going:
            counts.append(int(self.program.lengths[batches.rows(lane.seed, epoch, index)].sum()))
            lane.history.tokens += counts[-1]
            lane.history.train_seconds += seconds / len(going)
        return sum(counts)

    @property
    def going(self) -> list[Lane]:
        """The runs that haven't ended early."""
        return [lane for lane in self.lanes if not lane.ended]

    @property
    def over(self) -> bool:
        """Whether none of the runs goes on."""
        return all(lane.over for lane in self.lanes)

    def read(self, step: int, metrics: Mapping[str, Any]) -> None:
        """An update's metrics, into the journal of each run that goes on; `step` counts from 1.

        Raises:
            AllDiverged: all of these have a fault.
        """
        values = {name: np.atleast_1d(value) for name, value in metrics.items()}
        for number, lane in enumerate(self.lanes):
            if not lane.ended:
                lane.journal.update(step, {name: value[number] for name, value in values.items()})
        if self.over:
            raise AllDiverged

    def check(self) -> None:
        """Raises `AllDiverged` where every run has a fault: then nothing may be saved any more."""
        if all(lane.fault for lane in self.lanes):
            raise AllDiverged

    def one(self, number: int) -> tuple[TrainState, Parameters]:
        """(state, frozen) of one of the runs, as it has them alone on one device."""
        return self.program.alone(self.state, self.frozen, number, len(self.lanes))

    @property
    def bytes(self) -> int:
        """Of a save."""
        return sum(leaf.nbytes for leaf in jax.tree.leaves(self.state))

    def save(self, saving: Saving) -> None:
        """Saves every run, in the background."""
        saving.save(f"step {self.step}", self._copies)

    def _copies(self) -> list[Write]:
        """Refused where a transformation of the strategy's own has made weights useless: the next update shows it."""
        writes: list[Write] = []
        for number, lane in enumerate(self.lanes):
            if lane.store and lane.writes:
                state = snapshot(self.one(number)[0])
                if not all_finite(state.params) and not lane.over:
                    return [_refuse]
                writes += lane.writing(lane.store, state)
        return writes


def _refuse(sign: Sign) -> None:
    raise Refused("its weights are not finite")
