"""Prepares an experiment before its first run: reads and checks data, model and settings, and claims the folder."""

import threading
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.checks import DataCheck
from flax_agnews.data.encoded import Data, encode_corpus
from flax_agnews.data.sources import Corpus, load_corpus
from flax_agnews.data.tokens import Tokenizer, check_vocabulary
from flax_agnews.experiment.announcement import announce_idle, announce_plan, announce_start
from flax_agnews.experiment.compared_strategies import built, planned
from flax_agnews.experiment.continuation import Scheme, check_begun, epochs_left
from flax_agnews.experiment.disk_budget import check_room, keeps_final
from flax_agnews.experiment.outputs import Outputs, check_trackers
from flax_agnews.experiment.planning import fits_apart, spread
from flax_agnews.experiment.preparation import choose_tokenizer, keep_tokenizer
from flax_agnews.experiment.progress import silent
from flax_agnews.experiment.results import facts, header
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.runs import trial_record
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.predictions import Predictions
from flax_agnews.runs.results import Results, RunResult
from flax_agnews.runs.shards import Shard
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.files import expanded
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.jax_setup import begin
from flax_agnews.training.lane import Lane
from flax_agnews.training.parallel import Devices
from flax_agnews.training.processes import Team, current_team
from flax_agnews.training.saving import Saving
from flax_agnews.training.shape_prices import Prices
from flax_agnews.training.state import Setup
from flax_agnews.training.vote import Vote


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


def prepare(
    config: Config,
    strategies: Sequence[Entry | Strategy],
    seeds: Sequence[int],
    display: Display | None = None,
    overwrite: bool = False,
    claim: bool = True,
) -> Prepared:
    """Starts JAX, reads data and model, checks that all fits together, and then claims the output folder.

    Args:
        config: all settings.
        strategies: the strategies to compare.
        seeds: seeds of each strategy's runs.
        display: where progress is shown; by default plain lines on standard output.
        overwrite: start over in a folder that is in use.
        claim: whether to claim the folder, for runs; without that, nothing is written into it, or locked.

    Raises:
        UserError: bad input; nothing has been computed or written.
    """
    begin(config.parallel, config.train.deterministic)
    first = current_team().is_first
    folder = OutputFolder(expanded(config.output), writes=first)
    try:
        with (display or Display()) if first else silent() as shown:
            return _prepare(config, strategies, seeds, folder, shown, overwrite, claim)
    except BaseException:
        folder.lock.release()
        raise


def _prepare(
    config: Config,
    strategies: Sequence[Entry | Strategy],
    seeds: Sequence[int],
    folder: OutputFolder,
    display: Display,
    overwrite: bool,
    claim: bool,
) -> Prepared:
    config = _checked(config, folder, overwrite, claim)
    team, every = current_team(), Devices.of(config.parallel)
    workers = every.apart if spread(config, len(strategies), len(every), team.count) else (every,)
    announce_start(display, config, workers)
    corpus, base, tokenizer = _read(config, folder, display, overwrite)
    groups, own = _dealt(config, strategies, seeds, base)
    with display.busy("tokenizing"):
        data = encode_corpus(corpus, tokenizer, config.data.max_length)
    prices = Prices.of(every, base.config, config.model.dtype)
    with display.busy("planning batches"):
        batches = plan_batches(data.train, config.train, seeds, workers[0], prices)
    steps = batches.steps_per_epoch
    plans = [partial(planned, strategy, base, data, config, steps) for strategy in own]
    setups = [plan() for plan in plans]
    if len(workers) > 1 and not fits_apart(config, setups, batches, every, display):
        workers, batches = (every,), plan_batches(data.train, config.train, seeds, every, prices)
    devices, at_once = workers[0], min(len(workers), sum(map(len, groups.values())))
    activations = Activations(config, data, devices, prices)
    activations.check(setups)
    runs = {name: sum(map(len, lists)) for name, lists in groups.items()}
    disk, final = check_room(config, setups, runs, at_once), keeps_final(config, setups, runs, at_once)
    schemes = {s.name: Scheme(s, config.train, steps, plan) for s, plan in zip(setups, plans, strict=True)}
    with display.busy("checking what the strategies do"):
        updates = {name: scheme.identity["updates"] for name, scheme in schemes.items()}
        check_begun(folder, [] if overwrite else schemes.values(), seeds, data.hash)
    team.check_same(facts(config, setups, updates, data, base))  # everything is checked: writing begins here
    if claim:
        _claim(folder, config, tokenizer, overwrite)
    announce_plan(display, config, data, base, batches, runs, disk)
    announce_idle(display, len(workers), at_once)
    return Prepared(
        config=config,
        folder=folder,
        team=team,
        outputs=Outputs(config, folder, display),
        display=display,
        interrupt=Interrupt(Vote(devices) if devices.several else None),
        devices=devices,
        workers=workers,
        tokenizer=tokenizer,
        data=data,
        base=base,
        batches=batches,
        groups=groups,
        setups=setups,
        activations=activations,
        compiler=Compiler(devices),
        schemes=schemes,
        keeps_final=final,
        corpus=corpus,
    )


def _checked(config: Config, folder: OutputFolder, overwrite: bool, claim: bool) -> Config:
    """The settings, as the folder's earlier runs read them; takes the folder's lock where it is in use."""
    config = folder.check(config, overwrite)
    if claim and folder.writes and folder.in_use:
        folder.lock.take()
    if folder.writes:
        check_trackers(config.tracking)
    return config


def _claim(folder: OutputFolder, config: Config, tokenizer: Tokenizer, overwrite: bool) -> None:
    """Claims the output folder in all processes, and keeps the tokenizer there."""
    folder.claim(config, overwrite)
    if folder.writes:
        keep_tokenizer(config, tokenizer, folder.path / "tokenizer")
    current_team().meet()


def _dealt(
    config: Config, strategies: Sequence[Entry | Strategy], seeds: Sequence[int], base: Base
) -> tuple[dict[str, list[list[int]]], list[Strategy]]:
    """Strategy -> groups of seeds of this shard's runs; and the strategies that have such runs, built for the body."""
    shard = Shard.of(config.parallel.shard)
    groups = shard.own([strategy.name for strategy in strategies], seeds, config.train.parallel_seeds)
    return groups, [built(strategy, base, config.strategies) for strategy in strategies if groups[strategy.name]]


def _read(config: Config, folder: OutputFolder, display: Display, overwrite: bool) -> tuple[Corpus, Base, Tokenizer]:
    """Reads the texts, the body, and a tokenizer that fits both."""
    with display.busy(f"reading {config.data.source}"):
        corpus = load_corpus(config.data)
    with display.busy(f"loading {config.model.reported_name}"):
        base = load_base(config.model, config.train.seed)
    kept = folder.path / "tokenizer" if folder.in_use and not overwrite else None
    tokenizer = choose_tokenizer(config, corpus, kept, display)
    check_vocabulary(tokenizer, base.config.vocab_size, config.model.reported_name)
    return corpus, base, tokenizer
