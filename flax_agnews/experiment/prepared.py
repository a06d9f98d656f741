"""Prepares an experiment before its first run: reads and checks data, model and settings, and claims the folder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from flax_agnews.config import Config, ParallelConfig
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.checks import DataCheck
from flax_agnews.data.encoded import Data, encode_corpus
from flax_agnews.data.sources import Corpus, load_corpus
from flax_agnews.data.tokens import Tokenizer, check_vocabulary
from flax_agnews.experiment.announcement import announce_plan, announce_start
from flax_agnews.experiment.compared_strategies import built, planned
from flax_agnews.experiment.continuation import Scheme, check_begun, epochs_left
from flax_agnews.experiment.disk_budget import check_room, keeps_final
from flax_agnews.experiment.outputs import Outputs, check_trackers
from flax_agnews.experiment.preparation import choose_tokenizer, keep_tokenizer
from flax_agnews.experiment.progress import silent
from flax_agnews.experiment.ray_cluster import check_nodes, check_settings, connect
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
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.jax_setup import begin
from flax_agnews.training.lane import Lane
from flax_agnews.training.parallel import Devices
from flax_agnews.training.processes import Team, current_team
from flax_agnews.training.program import plan_batches
from flax_agnews.training.saving import Saving
from flax_agnews.training.shape_prices import Prices
from flax_agnews.training.state import Setup
from flax_agnews.training.vote import Vote


@dataclass(frozen=True)
class Prepared:
    """An experiment that is ready to compute; its output folder is claimed, and locked.

    Attributes:
        config: all settings, as written to config.yaml; labels are read as in the folder's earlier runs.
        folder: the output folder.
        team: the processes that train together; usually one.
        outputs: opens the files, checkpoint stores and trackers of the runs.
        display: where progress is shown; of several processes, only the first shows it.
        interrupt: the watcher for SIGINT and SIGTERM.
        devices: the devices that share every batch.
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


def prepare(
    config: Config,
    strategies: Sequence[Entry | Strategy],
    seeds: Sequence[int],
    display: Display | None = None,
    overwrite: bool = False,
    guest: bool = False,
) -> Prepared:
    """Starts JAX, reads data and model, checks that all fits together, and then claims the output folder.

    Args:
        config: all settings.
        strategies: the strategies to compare.
        seeds: seeds of each strategy's runs.
        display: where progress is shown; by default plain lines on standard output.
        overwrite: start over in a folder that is in use.
        guest: train runs in a folder that another process, the driver of a cluster, has claimed and keeps locked.

    Raises:
        UserError: bad input; nothing has been computed or written.
    """
    check_settings(config.parallel)
    begin(config.parallel, config.train.deterministic)
    first, ray = current_team().is_first, config.parallel.engine == "ray"
    folder = OutputFolder(expanded(config.output), writes=first and not guest, writes_runs=first)
    try:
        with (display or Display()) if first else silent() as shown:
            if ray:
                with shown.busy("joining the Ray cluster"):
                    connect(config.parallel)
            made = replace(_prepare(config, strategies, seeds, folder, shown, overwrite), strategies=strategies)
            if ray:
                with shown.busy("checking its nodes"):
                    cluster = check_nodes(folder.path.absolute(), config.parallel)
                shown.say("ray", cluster)
            return made
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
) -> Prepared:
    config = folder.check(config, overwrite)
    if folder.writes and folder.in_use:
        folder.lock.take()
    if folder.writes:
        check_trackers(config.tracking)
    team, devices = current_team(), Devices.of(of_driver(config.parallel))
    announce_start(display, config, devices)
    corpus, base, tokenizer = _read(config, folder, display, overwrite)
    groups, own = _dealt(config, strategies, seeds, base)
    with display.busy("tokenizing"):
        data = encode_corpus(corpus, tokenizer, config.data.max_length)
    prices = Prices.of(devices, base.config, config.model.dtype)
    with display.busy("planning batches"):
        batches = plan_batches(data.train, config.train, seeds, devices, prices)
    steps = batches.steps_per_epoch
    plans = [partial(planned, strategy, base, data, config, steps) for strategy in own]
    setups = [plan() for plan in plans]
    activations = Activations(config, data, devices, prices)
    activations.check(setups)
    runs = {name: sum(map(len, lists)) for name, lists in groups.items()}
    disk, final = check_room(config, setups, runs), keeps_final(config, setups, runs)
    schemes = {s.name: Scheme(s, config.train, steps, plan) for s, plan in zip(setups, plans, strict=True)}
    with display.busy("checking what the strategies do"):
        updates = {name: scheme.identity["updates"] for name, scheme in schemes.items()}
        if not overwrite:
            check_begun(folder, schemes.values(), seeds, data.hash)
    team.check_same(facts(config, setups, updates, data, base))  # everything is checked: writing begins here
    folder.claim(config, overwrite)
    if folder.writes:
        keep_tokenizer(config, tokenizer, folder.path / "tokenizer")
    team.meet()
    announce_plan(display, config, data, base, batches, runs, disk)
    return Prepared(
        config=config,
        folder=folder,
        team=team,
        outputs=Outputs(config, folder, display),
        display=display,
        interrupt=Interrupt(Vote(devices) if devices.several else None),
        devices=devices,
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


def of_driver(config: ParallelConfig) -> ParallelConfig:
    """The settings of this process's devices: with Ray, which trains nothing here, one processor."""
    return replace(config, devices=1, mode="jit") if config.engine == "ray" else config


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
