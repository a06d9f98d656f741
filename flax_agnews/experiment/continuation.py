"""Checks whether runs in an output folder may be resumed: with the same strategy, or the same one for more epochs.

The updates of a strategy are identified by a hash of their effect (`training/update_hash.py`) in the steps of the plan
that a run was started with. A longer plan may resume the run where it makes the same updates in those steps.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError, flag, shown
from flax_agnews.runs import trial_record
from flax_agnews.runs.identity import START_ELSEWHERE
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.results import RunResult
from flax_agnews.runs.run_folder import RunFolder
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.shape_prices import may_grow
from flax_agnews.training.state import Setup
from flax_agnews.training.update_hash import behaviour


@dataclass
class Scheme:
    """A strategy's updates, hashed for the number of epochs of this call and for fewer.

    Attributes:
        setup: the strategy on the model, at its own learning rates.
        train: training settings.
        steps_per_epoch: updates per epoch.
        planned: sets the strategy up for a plan of the given number of epochs.
    """

    setup: Setup
    train: TrainConfig
    steps_per_epoch: int
    planned: Callable[[int], Setup]
    _found: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the strategy."""
        return self.setup.name

    @property
    def steps(self) -> int:
        """Number of updates in the whole plan."""
        return self.train.epochs * self.steps_per_epoch

    @property
    def identity(self) -> dict[str, str]:
        """The hash of the updates and the number of steps that it covers, as in identity.json (`PLANNED`)."""
        return {"updates": self._updates(self.train.epochs, self.train.epochs), "steps": str(self.steps)}

    def check(self, place: Path, known: Mapping[str, Any], epochs: int | None) -> None:
        """Raises a `UserError` where a run or search has other updates, or can't be resumed for more epochs.

        Args:
            place: folder or file of the run or search, for errors.
            known: its identity; one without `updates` was written by an earlier version, and is accepted.
            epochs: number of epochs it was planned for, where its identity has no `steps`.
        """
        steps = known.get("steps", str((epochs or self.train.epochs) * self.steps_per_epoch))
        whole = steps.isdecimal() and int(steps) % self.steps_per_epoch == 0 if isinstance(steps, str) else False
        before = int(steps) // self.steps_per_epoch if whole else 0
        if not 0 < before <= self.train.epochs:
            raise UserError(
                f"{place}: was begun with other steps ({shown(steps)}, now {self.steps}). {START_ELSEWHERE}"
            )
        if "updates" not in known and before == self.train.epochs:
            return
        ours = self._updates(before, before)
        if known.get("updates", ours) != ours:
            updates = "updates: rates, schedule, decay, clipping or other numbers of its transformations"
            raise UserError(f"{place}: was begun with other {updates} have changed. {START_ELSEWHERE}")
        shapes_change = self.train.shapes == "auto" and not may_grow(self.train)
        if before < self.train.epochs and (shapes_change or self._updates(self.train.epochs, before) != ours):
            raise UserError(
                f"{flag('train.epochs')} {self.train.epochs}: {place} was begun with {before}, and can't go on "
                f"exactly, since {self._reason} depends on the number of epochs. {START_ELSEWHERE}"
            )

    @property
    def _reason(self) -> str:
        """The setting that makes the first updates depend on the number of epochs, for the error."""
        if self.train.schedule != "constant":
            return f"{flag('train.schedule')} {self.train.schedule}"
        if self.train.warmup_fraction:
            return f"{flag('train.warmup_fraction')} {self.train.warmup_fraction:g}"
        return f"a rate of {self.name}"

    def _updates(self, epochs: int, seen: int) -> str:
        """Hash of the updates in the first `seen` of `epochs` epochs, over all parameters that train in these."""
        if (epochs, seen) not in self._found:
            setup = self._planned(epochs)
            shapes = {path: setup.model.shapes[path] for path in self._planned(seen).trainable}
            self._found[epochs, seen] = behaviour(setup.optimizer, shapes, seen * self.steps_per_epoch)
        return self._found[epochs, seen]

    def _planned(self, epochs: int) -> Setup:
        return self.setup if epochs == self.train.epochs else self.planned(epochs)


def check_begun(folder: OutputFolder, schemes: Iterable[Scheme], seeds: Sequence[int], data: str) -> None:
    """Raises a `UserError` where runs or searches in a folder can't be resumed by these strategies; writes nothing.

    Args:
        folder: the experiment's output folder.
        schemes: one for each strategy.
        seeds: the seeds of each strategy's runs.
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
    """Raises a `UserError` where a run has other texts or another strategy, or no state to resume from."""
    if (known := run.identity) is None:
        return
    run.check({"strategy": scheme.setup.model.fingerprint, "data": data})
    scheme.check(run.path, known, epochs)
    result = run.result
    if result is not None and epochs_left(result, scheme.train):
        _check_state(run, result, scheme)


def _check_state(run: RunFolder, result: RunResult, scheme: Scheme) -> None:
    """Raises a `UserError` where the last state of a finished run, needed for more epochs, wasn't kept."""
    if max(Store(run.path / "checkpoints").steps, default=0) < result.epochs * scheme.steps_per_epoch:
        raise UserError(
            f"{flag('train.epochs')} {scheme.train.epochs}: {run.path} is finished after {result.epochs} and "
            f"can't go on: its last state wasn't kept ({flag('checkpoint.keep_final')}, "
            f"{flag('checkpoint.keep_best')} run). {START_ELSEWHERE}"
        )


def epochs_left(result: RunResult, train: TrainConfig) -> bool:
    """Whether a finished run has epochs left: `train.epochs` has grown since, and it didn't stop early."""
    done = result.epochs
    early = result.planned_epochs is not None and done < result.planned_epochs
    early |= train.early_stopping is not None and done - result.best_epoch >= train.early_stopping
    return done < train.epochs and not early


def going_on(
    folder: OutputFolder, names: Sequence[str], seeds: Sequence[int], train: TrainConfig
) -> set[tuple[str, int]]:
    """(strategy, seed) of every run that isn't finished, or has epochs left."""
    return {(name, seed) for name in names for [seed] in to_do(folder, name, [[seed] for seed in seeds], train)}


def to_do(folder: OutputFolder, name: str, groups: Sequence[Sequence[int]], train: TrainConfig) -> list[list[int]]:
    """A strategy's unfinished seeds, grouped: those of one list train together and have done equally many epochs."""
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
