"""One run of a strategy: its seed, its numbers, and where they and its weights are kept."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, listed
from flax_agnews.metrics.tracking import NullTracker, Tracker
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
        circumstances: of the machine and the programs, on which the last digits depend besides.
        about: saved with the best weights, for those who load them: class names, vocabulary, the body's sizes.
    """

    identity: Mapping[str, str] = field(default_factory=dict)
    circumstances: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)


class Lane:
    """One run: its seed, its numbers, and where they and its weights are kept.

    Args:
        seed: decides head, adapter, batches and dropout.
        store: of checkpoints; without it, the best weights stay in memory and nothing can be resumed.
        metrics_path: a file of JSON lines, one an update and one an epoch.
        tracker: other places for metrics.
        notes: saved with every checkpoint.
        writes: whether this process writes into the store; of several, only the first does.
        skip: whether the run goes on without updates that are not finite; else the first one ends it.
        patience: epochs without a better validation accuracy after which the run ends early; None: never.
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
        self._best: Parameters | None = None  # since this process began
        self._best_saved = 0  # epoch

    def begin(self, history: History, steps_per_epoch: int, classes: int, settled: int = 0) -> None:
        """Starts from an empty history, or goes on from a saved one.

        Args:
            history: the run's numbers so far.
            steps_per_epoch: updates an epoch.
            classes: how many.
            settled: epochs before the strategy's last stage; those until then don't count for patience.
        """
        self.history, self._settled = history, settled
        self.journal = Journal(history, steps_per_epoch, classes, self._metrics_path, self.tracker)

    @property
    def fault(self) -> str:
        """At which step or epoch the run stopped, and what was not finite; empty as long as all is."""
        first = "" if self.skip else self.history.first_skipped
        return first or self.history.fault

    @property
    def ended(self) -> bool:
        """Whether the run has ended early, without a fault; what its state becomes later doesn't change its numbers."""
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
            step: after which it was saved.
            example: of the state.
            later: parameters that train in a later stage only, as in `Store.restore`.

        Returns:
            The state, the run's history, and why what follows may differ in the last digits; None where it doesn't.

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
            self._best_saved = 0  # they are of a shorter plan, in which fewer leaves trained: written anew, whole
        return state, History(**notes["history"]), inexact(notes["circumstances"], self.notes.circumstances)

    def writing(self, store: Store, state: TrainState) -> list[Write]:
        """Calls that write a checkpoint: first the best weights, which the state counts on.

        Args:
            store: the run's.
            state: a copy, on the host.
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

    def keep_best(self, params: Parameters) -> None:
        """Copies the best weights so far to the host, since the next update overwrites the state's memory."""
        self._best = snapshot(params)

    def best(self, example: Parameters, team: Team) -> Parameters:
        """The best epoch's trainable leaves, which look like `example`; read by the first process before the others."""
        if self._best is not None:
            return self._best
        store = self.store
        assert store is not None
        return team.first_before_others(lambda: store.restore_best(example, self.history.best_epoch))

    def finish(self, saving: Saving | None) -> None:
        """Saves the best weights, unless they are saved; a `UserError` where that fails."""
        if self.store and saving:
            best = partial(self._save_best, self.history.best_epoch, self._best)
            if failed := saving.finish("the best weights", [best]):
                raise UserError(f"{self.store.folder}: weights can't be saved ({failed})")

    def _save_best(self, epoch: int, params: Parameters | None, sign: Sign) -> None:
        if self.store and self.writes and params is not None and epoch != self._best_saved:
            self.store.save_best(params, epoch, self.notes.about, sign)
            self._best_saved = epoch
