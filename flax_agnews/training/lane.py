"""A lane of a group: one run of a strategy, with its seed, history, checkpoints and metrics."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.errors import UserError, listed
from flax_agnews.metrics.trackers import NullTracker, Tracker
from flax_agnews.models.parameters import Parameters
from flax_agnews.training.checkpoint import Store, snapshot
from flax_agnews.training.exactness import inexact
from flax_agnews.training.history import History, Journal
from flax_agnews.training.processes import Team
from flax_agnews.training.saving import Saving, Sign, Write
from flax_agnews.training.state import TrainState


@dataclass(frozen=True)
class RunNotes:
    """Notes that are saved with a run's checkpoints.

    Attributes:
        identity: hashes that must match before the run is resumed.
        circumstances: facts of the machine and software versions, on which the last digits depend.
        about: saved with the best weights, since loading them needs it: class names, vocabulary, the body's sizes.
    """

    identity: Mapping[str, str] = field(default_factory=dict)
    circumstances: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class Lane:
    """One run of a group: its seed, its history, its best weights, and where these are saved.

    Args:
        seed: seed of head, adapter, batches and dropout.
        store: the run's checkpoints; without it, the best weights stay in memory and nothing can be resumed.
        metrics_path: metrics file, JSON lines, one per update and one per epoch.
        tracker: also receives the metrics.
        notes: saved with every checkpoint.
        writes: whether this process writes into the store; of several processes, only the first does.
        skip: whether the run skips non-finite updates and goes on; otherwise the first one is its fault.
        patience: epochs without a better validation accuracy after which the run ends early; None for never.

    Attributes:
        history: the run's numbers so far (after `begin`).
        journal: writes these numbers (after `begin`).
        best_logits: [texts, classes], logits of the validation split with the best weights; None where the run was
            resumed since. Kept, since another pass over the texts costs 2 % of the quickstart's processor time; not
            saved, since that pass gives the same bits.
    """

    def __init__(
        self,
        seed: int,
        store: Store | None = None,
        metrics_path: Path | None = None,
        tracker: Tracker | None = None,
        notes: RunNotes | None = None,
        writes: bool = True,
        skip: bool = False,
        patience: int | None = None,
    ) -> None:
        self.seed, self.store, self.tracker = seed, store, tracker or NullTracker()
        self.writes, self.skip, self.patience = writes, skip, patience
        self.notes, self._metrics_path = notes or RunNotes(), metrics_path
        self._best: Parameters | None = None  # best weights, if this process has trained or read them
        self.best_logits: np.ndarray | None = None
        self._best_saved = 0  # epoch of the best weights in the store

    def begin(self, history: History, steps_per_epoch: int, classes: int, settled: int = 0) -> None:
        """Begins with an empty history, or continues a saved one.

        Args:
            history: the run's numbers so far.
            steps_per_epoch: number of updates per epoch.
            classes: number of classes.
            settled: number of epochs before the strategy's last stage; patience counts only later epochs.
        """
        self.history, self._settled = history, settled
        self.journal = Journal(history, steps_per_epoch, classes, self._metrics_path, self.tracker)

    @property
    def fault(self) -> str:
        """Where the run failed, and what was not finite; empty if it hasn't failed."""
        first = "" if self.skip else self.history.first_skipped
        return first or self.history.fault

    @property
    def ended(self) -> bool:
        """Whether the run has ended early, by `patience`; later changes of its state don't change its results."""
        if self.patience is None or self.fault:
            return False
        return len(self.history.val_accuracy) - max(self.history.best_epoch, self._settled) >= self.patience

    @property
    def over(self) -> bool:
        """Whether the run has ended early or has a fault."""
        return self.ended or bool(self.fault)

    def resume(
        self, step: int, example: TrainState, later: Collection[str] = ()
    ) -> tuple[TrainState, History, str | None]:
        """Reads a checkpoint.

        Args:
            step: the step of the checkpoint.
            example: a state with the same structure, shapes and types.
            later: paths of parameters that only train in a later stage, as in `Store.restore`.

        Returns:
            The state, the run's history, and why later numbers may differ in the last digits; None if they don't.

        Raises:
            UserError: the checkpoint is of another run.
        """
        assert self.store is not None
        state, notes = self.store.restore(step, example, later)
        other = [name for name, value in self.notes.identity.items() if notes["identity"].get(name) != value]
        if other:
            raise UserError(f"{self.store.folder}: is of a run with other {listed(other)}")
        self._best_saved = notes["best_epoch"]
        if later and self._best_saved and not self.store.best_is_whole(example.params, self._best_saved):
            self._best = snapshot(self.store.restore_best(example.params, self._best_saved, later))
            self._best_saved = 0  # of a shorter plan, in which fewer leaves trained: saved again with all leaves
        return state, History(**notes["history"]), inexact(notes["circumstances"], self.notes.circumstances)

    def writing(self, store: Store, state: TrainState) -> list[Write]:
        """The calls that write a checkpoint; the best weights first, since the state refers to them.

        Args:
            store: the run's store.
            state: a copy of the state on the host.
        """
        notes = {
            "identity": dict(self.notes.identity),
            "circumstances": dict(self.notes.circumstances),
            "best_epoch": self.history.best_epoch,
            "history": asdict(self.history),
        }
        best = partial(self._save_best, self.history.best_epoch, self._best)
        step = int(state.step)
        return [best, lambda sign: store.save(step, state, notes, sign)]

    def keep_best(self, params: Parameters, logits: np.ndarray) -> None:
        """Copies the best weights so far to the host, since the next update overwrites those on the device.

        Args:
            params: path -> array of the trainable leaves.
            logits: [texts, classes], logits of the validation split with them.
        """
        self._best, self.best_logits = snapshot(params), logits

    def best(self, example: Parameters, team: Team) -> Parameters:
        """The best epoch's trainable leaves, in the form of `example`; the first process reads before the others."""
        if self._best is not None:
            return self._best
        store = self.store
        assert store is not None
        return team.first_before_others(lambda: store.restore_best(example, self.history.best_epoch))

    def finish(self, saving: Saving | None) -> None:
        """Saves the best weights, unless they are saved already; raises a `UserError` if that fails."""
        if self.store and saving:
            best = partial(self._save_best, self.history.best_epoch, self._best)
            if failed := saving.finish("the best weights", [best]):
                raise UserError(f"{self.store.folder}: weights can't be saved ({failed})")

    def _save_best(self, epoch: int, params: Parameters | None, sign: Sign) -> None:
        if self.store and self.writes and params is not None and epoch != self._best_saved:
            self.store.save_best(params, epoch, self.notes.about, sign)
            self._best_saved = epoch
