"""What was begun in an output folder against what is asked for: an edited scheme is refused, more epochs may go on.

The updates of a strategy are identified by what they do (`training/behaviour.py`) in the steps of the plan that a run
was begun with. A longer plan may go on from a run's last state where it makes the same updates in those steps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError, shown
from flax_agnews.runs import trial_record
from flax_agnews.runs.output_folder import OutputFolder, RunFolder
from flax_agnews.runs.results import RunResult
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.state import Setup
from flax_agnews.training.update_hash import behaviour

_ELSE = "Choose another --output, or --overwrite"


@dataclass
class Scheme:
    """A strategy's updates under the plan of this call, and under shorter ones.

    Attributes:
        setup: the strategy on the model, at its own rates.
        train: how it trains.
        steps_per_epoch: updates an epoch.
        planned: number of epochs -> the strategy set up for a plan of so many.
    """

    setup: Setup
    train: TrainConfig
    steps_per_epoch: int
    planned: Callable[[int], Setup]
    _found: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The strategy's."""
        return self.setup.strategy.name

    @property
    def steps(self) -> int:
        """Updates of the whole plan."""
        return self.train.epochs * self.steps_per_epoch

    @property
    def identity(self) -> dict[str, str]:
        """What a run's folder has of it, as `PLANNED` names it: its updates, and in how many steps they are seen."""
        return {"updates": self._updates(self.train.epochs, self.train.epochs), "steps": str(self.steps)}

    def check(self, place: Path, known: Mapping[str, Any], epochs: int | None) -> None:
        """Refuses what was begun with other updates, or can't go on for as many epochs as are asked for now.

        Args:
            place: of what was begun, for errors.
            known: its identity; one that says nothing of updates was begun by an earlier version, and is taken.
            epochs: it was planned for, where its identity doesn't say.
        """
        steps = known.get("steps", str((epochs or self.train.epochs) * self.steps_per_epoch))
        whole = steps.isdecimal() and int(steps) % self.steps_per_epoch == 0 if isinstance(steps, str) else False
        before = int(steps) // self.steps_per_epoch if whole else 0
        if not 0 < before <= self.train.epochs:
            raise UserError(f"{place}: was begun with other steps ({shown(steps)}, now {self.steps}). {_ELSE}")
        if "updates" not in known and before == self.train.epochs:
            return
        ours = self._updates(before, before)
        if known.get("updates", ours) != ours:
            told = "updates: rates, schedule, decay, clipping or other numbers of its transformations"
            raise UserError(f"{place}: was begun with other {told} are not those of then. {_ELSE}")
        if before < self.train.epochs and self._updates(self.train.epochs, before) != ours:
            raise UserError(
                f"--train.epochs {self.train.epochs}: {place} was begun with {before}, and can't go on exactly, since "
                f"{self._reason} depends on the number of epochs. {_ELSE}"
            )

    @property
    def _reason(self) -> str:
        """Why more epochs change the first ones."""
        if self.train.schedule != "constant":
            return f"--train.schedule {self.train.schedule}"
        if self.train.warmup_fraction:
            return f"--train.warmup_fraction {self.train.warmup_fraction:g}"
        return f"a rate of {self.name}"

    def _updates(self, epochs: int, seen: int) -> str:
        """What it does in the first `seen` epochs of a plan of `epochs`, to all that trains in those."""
        if (epochs, seen) not in self._found:
            setup = self._planned(epochs)
            shapes = {path: setup.frame.shapes[path] for path in self._planned(seen).trainable}
            self._found[epochs, seen] = behaviour(setup.optimizer, shapes, seen * self.steps_per_epoch)
        return self._found[epochs, seen]

    def _planned(self, epochs: int) -> Setup:
        return self.setup if epochs == self.train.epochs else self.planned(epochs)


def check_begun(folder: OutputFolder, schemes: Iterable[Scheme], seeds: Sequence[int], data: str) -> None:
    """Refuses a folder in which runs, or searches, can't be resumed as they are asked for now; writes nothing.

    Args:
        folder: the experiment's.
        schemes: one for each strategy.
        seeds: of the runs.
        data: the hash of the texts.
    """
    epochs = folder.epochs
    for scheme in schemes:
        for seed in seeds:
            _check_run(folder.run(scheme.name, seed), scheme, data, epochs)
        record = trial_record.read(folder.path, scheme.name)
        if record is not None and record.identity.get("data") == data:
            scheme.check(trial_record.path_of(folder.path, scheme.name), record.identity, epochs)


def _check_run(run: RunFolder, scheme: Scheme, data: str, epochs: int | None) -> None:
    """Refuses a run that was begun with other texts or another strategy, or has no state for more epochs."""
    if (known := run.identity) is None:
        return
    run.check({"strategy": scheme.setup.fingerprint, "data": data})
    scheme.check(run.path, known, epochs)
    result = run.result
    if result is not None and epochs_left(result, scheme.train):
        _check_state(run, result, scheme)


def _check_state(run: RunFolder, result: RunResult, scheme: Scheme) -> None:
    """Refuses more epochs of a finished run that has nothing to go on from."""
    if max(Store(run.path / "checkpoints").steps, default=0) < result.epochs * scheme.steps_per_epoch:
        raise UserError(
            f"--train.epochs {scheme.train.epochs}: {run.path} is finished after {result.epochs} and can't go on: its "
            f"last state wasn't kept (--checkpoint.keep_final, --checkpoint.keep_best run). {_ELSE}"
        )


def epochs_left(result: RunResult, train: TrainConfig) -> bool:
    """Whether a finished run has epochs to go: `train.epochs` has grown since, and it didn't stop early."""
    done = result.epochs
    early = result.planned_epochs is not None and done < result.planned_epochs
    early |= train.early_stopping is not None and done - result.best_epoch >= train.early_stopping
    return done < train.epochs and not early


def going_on(
    folder: OutputFolder, names: Sequence[str], seeds: Sequence[int], train: TrainConfig
) -> set[tuple[str, int]]:
    """(strategy, seed) of what is still to do."""
    return {(name, seed) for name in names for [seed] in to_do(folder, name, [[seed] for seed in seeds], train)}


def to_do(folder: OutputFolder, name: str, groups: Sequence[Sequence[int]], train: TrainConfig) -> list[list[int]]:
    """A strategy's seeds that aren't finished; those that train together, and are as far, in one list."""
    lists: list[list[int]] = []
    for group in groups:
        by_epochs: dict[int, list[int]] = {}
        for seed in group:
            result = folder.run(name, seed).result
            if result is None:
                by_epochs.setdefault(0, []).append(seed)
            elif epochs_left(result, train):
                by_epochs.setdefault(result.epochs, []).append(seed)
        lists += by_epochs.values()
    return lists
