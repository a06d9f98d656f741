"""An experiment that is ready to compute, as `start.prepare` makes it."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.checks import DataCheck
from flax_agnews.data.encoded import Data
from flax_agnews.data.sources import Corpus
from flax_agnews.data.tokens import Tokenizer
from flax_agnews.experiment.continuation import Scheme, epochs_left
from flax_agnews.experiment.outputs import Outputs
from flax_agnews.experiment.results import facts, header
from flax_agnews.models.pretrained import Base
from flax_agnews.runs import trial_record
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.predictions import Predictions
from flax_agnews.runs.results import Results, RunResult
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.lane import Lane
from flax_agnews.training.parallel import Devices
from flax_agnews.training.processes import Team
from flax_agnews.training.saving import Saving
from flax_agnews.training.state import Setup


@dataclass(frozen=True)
class Prepared:
    """An experiment that is ready to compute; its output folder is claimed, and locked, unless that was left out.

    Attributes:
        config: all settings, as written to config.yaml; labels are read as in the folder's earlier runs.
        folder: the output folder.
        team: the processes that train together; usually one.
        outputs: opens the files, checkpoint stores and trackers of the runs.
        display: where progress is shown; of several processes, only the first shows it.
        interrupt: the watcher for SIGINT and SIGTERM.
        devices: the devices that share every batch; of several workers, the first one's.
        workers: the devices that train a job at a time; several of one device each where runs are spread.
        tokenizer: the tokenizer of the texts.
        data: the tokenized splits.
        base: the body as it was loaded, before any language-model adaptation.
        batches: the plan of training batches: which texts are in which update of every run.
        groups: name of a strategy -> seeds of its runs in this shard, by default all, in groups that train together.
        setups: the strategies on the model that have such runs, in the order in which they run.
        activations: the caches of frozen layers' output.
        compiler: compiles the steps of all strategies, which share what is equal.
        schemes: name of a strategy -> its updates, compared before its runs are resumed.
        keeps_final: whether the last states of finished runs are kept.
        corpus: the texts; None after `data_files.write_data_files`.
        checks: what that found in the texts; None before.
        writing: lock of the files that several runs share.
        strategies: the strategies that are compared, as they were given.
        computed_on: facts of the machine on which runs were computed, where that isn't this one, for results.json.
    """

    config: Config
    folder: OutputFolder
    team: Team
    outputs: Outputs
    display: Display
    interrupt: Interrupt
    devices: Devices
    workers: Sequence[Devices]
    tokenizer: Tokenizer
    data: Data
    base: Base
    batches: TrainBatches
    groups: Mapping[str, Sequence[Sequence[int]]]
    setups: Sequence[Setup]
    activations: Activations
    compiler: Compiler
    schemes: Mapping[str, Scheme]
    keeps_final: bool
    corpus: Corpus | None
    checks: list[DataCheck] | None = None
    writing: AbstractContextManager[Any] = field(default_factory=threading.RLock)
    strategies: Sequence[Entry | Strategy] = ()
    computed_on: dict[str, str] = field(default_factory=dict)

    @property
    def facts(self) -> dict[str, Any]:
        """Versions, settings and hashes that must be the same in all processes that train the comparison's runs."""
        updates = {name: scheme.identity["updates"] for name, scheme in self.schemes.items()}
        return facts(self.config, self.setups, updates, self.data, self.base)

    def identity(self, setup: Setup, base: Base) -> dict[str, str]:
        """Hashes that must match before a run is resumed.

        Args:
            setup: the run's strategy on the model.
            base: the body that it starts from, after any language modelling.
        """
        rates = {} if setup.factor is None else {"rates": repr(setup.factor)}
        strategy, updates = setup.model.fingerprint, self.schemes[setup.name].identity
        return {"strategy": strategy, **updates, "weights": base.hash, "data": self.data.hash, **rates}

    def header(self, base: Base, adaptation: Adaptation | None, faults: Sequence[str]) -> Results:
        """The content of `results.json` without its `runs`.

        Args:
            base: the body that the runs start from.
            adaptation: the result of language modelling, if there was any.
            faults: runs that stopped because their numbers were not finite, and where.
        """
        found = header(self.config, self.data, self.batches, base, adaptation, self.devices)
        search = trial_record.results(self.folder.path) if self.config.search.trials else None
        machine = {"products": found.model.products, **found.environment, **self.computed_on}
        model = replace(found.model, products=machine.pop("products"))
        found = replace(found, environment=machine, model=model)
        return replace(found, search=search, diverged=list(faults), checks=self.checks)

    def tidy(self, name: str, seed: int, identity: Mapping[str, str]) -> None:
        """Checks the identity of a run that was started before; removes unneeded checkpoints of a finished one.

        Args:
            name: name of the strategy.
            seed: seed of the run.
            identity: hashes that must match those that the run was started with.
        """
        run = self.folder.run(name, seed)
        if run.path.exists():
            run.check(identity)
            result = run.result
            if result and run.writes and not epochs_left(result, self.config.train):
                self.finish(Store(run.path / "checkpoints"), result.best_epoch, result.epochs)

    def write(self, lane: Lane, saving: Saving | None, result: RunResult, predictions: Predictions) -> None:
        """Writes a finished run: its best weights, predictions and result; removes checkpoints that it needs no more.

        Args:
            lane: the run.
            saving: the schedule of its checkpoints.
            result, predictions: the contents of its files.
        """
        lane.finish(saving)
        self.folder.run(result.strategy, result.seed).write(result, predictions)
        if lane.store:
            self.finish(lane.store, result.best_epoch, result.epochs)

    def finish(self, store: Store, best_epoch: int, epochs: int) -> None:
        """Removes a finished run's checkpoints, except the best weights and, where it is kept, the last state.

        Args:
            store: the run's checkpoints.
            best_epoch: the epoch of the best weights, from 1.
            epochs: number of epochs that the run trained for.
        """
        store.finish(best_epoch, epochs * self.batches.steps_per_epoch if self.keeps_final else None)
