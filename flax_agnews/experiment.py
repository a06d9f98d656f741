"""Strategies x seeds -> an output folder: skips what is done, resumes what is not."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from flax_agnews import trials
from flax_agnews.config import Config
from flax_agnews.data.encoded import encode_corpus
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import check_vocabulary
from flax_agnews.disk import check_room, drop_weights
from flax_agnews.display import Display
from flax_agnews.errors import Diverged
from flax_agnews.files import expanded, write_json
from flax_agnews.folder import OutputFolder
from flax_agnews.interrupt import Interrupt, Stopped
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.optim import Plan
from flax_agnews.places import Places
from flax_agnews.prepare import adapted, choose_tokenizer, keep_tokenizer, model_name
from flax_agnews.ranges import check_ranges
from flax_agnews.records import facts, header, run_record, weights_record
from flax_agnews.search import Search
from flax_agnews.shown import Shown, ShownCaching, advice, announce, describe, job, silent
from flax_agnews.starting import started
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.surroundings import check_directory
from flax_agnews.tracking import check_key
from flax_agnews.training import processes
from flax_agnews.training.activations import Activations
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.loop import Interrupted, Run, fit
from flax_agnews.training.memory import keep_freed, out_of_memory
from flax_agnews.training.parallel import Devices, compute_deterministically, keep_compilations
from flax_agnews.training.pretrain import Adaptation
from flax_agnews.training.program import Program, plan_batches
from flax_agnews.training.state import Setup, set_up


class Experiment:
    """A comparison of strategies on one data set and one body.

    Args:
        config: all settings.
        strategies: what is compared: entries of the registry (built with their section of the settings), or
            strategies of one's own.
        display: where progress is shown; plain lines on standard output by default.
        overwrite: start over in a folder that is in use.

    Raises:
        UserError: bad input, before anything is computed.
    """

    def __init__(
        self,
        config: Config,
        strategies: Sequence[Entry | Strategy],
        display: Display | None = None,
        overwrite: bool = False,
    ) -> None:
        check_ranges(config)
        _begin(config)
        first = processes.is_first()
        self.config, self.display = config, (display or Display()) if first else silent()
        self.names = [strategy.name for strategy in strategies]
        for entry in strategies:
            if isinstance(entry, Entry):
                config.strategies.setdefault(entry.name, entry.settings())
        self.folder = OutputFolder(expanded(config.output), writes=first)
        self.places = Places(config, self.folder, self.display)
        self._faults: list[str] = []  # runs that stop because their numbers are not finite
        try:
            self._prepare(strategies, overwrite)
        except BaseException:
            self.folder.lock.release()
            raise

    def _prepare(self, strategies: Sequence[Entry | Strategy], overwrite: bool) -> None:
        """All that comes before the first run."""
        config = self.config
        self.folder.check(config, overwrite)
        if self.folder.writes and self.folder.in_use:
            self.folder.lock.take()
        if self.folder.writes:
            check_key(config.tracking)
        self.devices = Devices.of(config.parallel)
        self.interrupt = Interrupt(processes.Vote(self.devices) if self.devices.several else None)
        announce(self.display, config, self.devices)
        with self.display.busy(f"reading {config.data.source}"):
            corpus = load_corpus(config.data)
        with self.display.busy(f"loading {model_name(config)}"):
            base = load_base(config.model, config.train.seed)
        kept = self.folder.path / "tokenizer" if self.folder.in_use and not overwrite else None
        self.tokenizer = choose_tokenizer(config, corpus, kept, self.display)
        check_vocabulary(self.tokenizer, base.config.vocab_size, model_name(config))
        self.strategies = [_built(strategy, base, config) for strategy in strategies]
        with self.display.busy("tokenizing"):
            self.data = encode_corpus(corpus, self.tokenizer, config.data.max_length)
        self.seeds = [config.train.seed + run for run in range(config.train.runs)]
        self.batches = plan_batches(self.data.train, config.train, self.seeds, self.devices)
        setups = [self._set_up(strategy, base) for strategy in self.strategies]
        self.activations = Activations(config, self.data, self.devices)
        self.activations.check(setups)
        disk = check_room(config, setups)
        processes.check_same(facts(config, setups, self.data, base))  # all is right everywhere: now it is written
        self.folder.claim(config, overwrite)
        if self.folder.writes:
            keep_tokenizer(config, self.tokenizer, self.folder.path / "tokenizer")
        processes.meet()
        describe(self.display, config, self.data, base, self.batches, len(strategies), disk)
        self.base, self.adaptation = self._adapted(base)
        self.setups = [replace(setup, base=self.base) for setup in setups]

    def run(self) -> dict[str, Any]:
        """Runs what isn't finished, and gives what results.json has. The folder is others' afterwards.

        Raises:
            Stopped: on SIGINT or SIGTERM, after saving; the same call goes on from there.
            Diverged: numbers of some runs were not finite; all others are finished.
        """
        with self:
            return self._run()

    def search(self) -> None:
        """Has each strategy's rates chosen, where `search.trials` asks for it, unless they were before."""
        if self.config.search.trials:
            what = (self.config, self.data, self.devices, self.activations)
            search = Search(*what, self.folder, self.display, self.interrupt)
            with self.interrupt, self.display:
                self.setups = [search.choose(s, self.shared, self._identity(s)) for s in self.setups]

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, *_: object) -> None:
        self.folder.lock.release()

    def _run(self) -> dict[str, Any]:
        self.search()
        for setup in self.setups:  # finished runs too: an edited strategy must not pass for the one that ran
            for seed in self.seeds:
                self._tidy(setup, seed)
        todo = processes.of_first({strategy.name: self._to_do(strategy.name) for strategy in self.strategies})
        epochs = self.config.train.epochs
        self.display.plan([job(name, seeds, epochs) for name in todo for seeds in todo[name]])
        every = len(self.strategies) * len(self.seeds)
        if done := every - sum(len(seeds) for groups in todo.values() for seeds in groups):
            self.display.note(f"{done} of {every} runs were done before")
        with self.interrupt, self.display:
            for setup in self.setups:
                if groups := todo[setup.strategy.name]:
                    self._run_strategy(setup, groups)
        found = processes.first_before_others(lambda: self.folder.write_results(self._header(), self.names))
        if self._faults:
            raise Diverged(self._faults, advice(self.config))
        return found

    def _tidy(self, setup: Setup, seed: int) -> None:
        """Checks what a run that was begun before is a run of; of a finished one, drops what it needs no more."""
        folder = self.folder.run(setup.strategy.name, seed)
        if folder.path.exists():
            folder.claim(self._identity(setup))
            if (result := folder.result) and folder.writes:
                Store(folder.path / "checkpoints").finish(result["best_epoch"])

    def _to_do(self, name: str) -> list[list[int]]:
        """The seeds of a strategy that aren't finished; those that train together in one list."""
        left = [[k for k in group if self.folder.run(name, k).result is None] for group in self.batches.groups]
        return [group for group in left if group]

    def _run_strategy(self, setup: Setup, groups: Sequence[Sequence[int]]) -> None:
        """Compiles a strategy once, and runs its seeds."""
        program = self.compile(setup, {len(seeds) for seeds in groups})
        for seeds in groups:
            if self.interrupt.check(now=True):
                raise Stopped("stopped between runs", self.interrupt.asked)
            try:
                self.train(program, seeds)
            except Diverged as stopped:  # the others go on
                self._faults += stopped.faults
            if self.folder.writes:
                drop_weights(self.folder, self.config.checkpoint.keep_best)
            self.folder.write_results(self._header(), self.names)

    def compile(self, setup: Setup, group_sizes: Collection[int] = (1,)) -> Program:
        """A strategy's compiled steps, for any of the experiment's seeds, so many at a time; frozen layers cached.

        Raises:
            Stopped: on a signal during the caching.
        """
        told, lengths = ShownCaching(self.display, setup.strategy.name, self.interrupt), self.data.train.tokens.lengths
        try:
            with out_of_memory(self.config):
                read = self.activations.inputs(setup, self.shared, self.batches, told)
        except Interrupted:
            raise Stopped("stopped while caching", self.interrupt.asked) from None
        with self.display.busy(f"compiling {setup.strategy.name}"), out_of_memory(self.config):
            made = partial(Program, setup, self.devices, self.shared, evaluated=read.evaluated, by_stage=read.by_stage)
            return made(read.batches, group_sizes=group_sizes, lengths=lengths, cache_seconds=read.seconds)

    def train(self, program: Program, seeds: Sequence[int]) -> list[Run]:
        """Runs that train together, from where their checkpoints left off: trains, tests, writes their results.

        Raises:
            Stopped: on a signal; the runs are saved.
            Diverged: numbers of some of them were not finite; the others are finished.
        """
        config, name = self.config, program.setup.strategy.name
        steps_per_epoch, epochs = self.batches.steps_per_epoch, config.train.epochs
        watch = Shown(self.display, name, seeds, epochs, steps_per_epoch, self.interrupt)
        identity = self._identity(program.setup)
        about = weights_record(self.data, self.tokenizer, self.base)
        lanes = [self.places.lane(name, seed, identity, self.devices, about) for seed in seeds]
        try:
            with out_of_memory(config):
                runs = fit(program, lanes, epochs, saving=self.places.saving(name), watch=watch)
            finished = [(lane, run) for lane, run in zip(lanes, runs, strict=True) if run]
            for lane, run in finished:
                tested = {"test/loss": run.test.loss, "test/accuracy": run.test.accuracy}
                lane.tracker.log({**tested, "total_train_time": run.history.train_seconds}, steps_per_epoch * epochs)
        except Interrupted as stop:
            where = ", ".join(f"{name}/seed-{seed}" for seed in seeds)
            told = f"saved at {where}, step {stop.step}" if stop.step else f"stopped in {where}, not saved"
            raise Stopped(told, self.interrupt.asked) from None
        finally:
            for lane in lanes:
                lane.tracker.finish()
        for lane, run in finished:
            if not lane.writes:
                continue
            lane.finish()
            record = run_record(program, lane.seed, run, self.adaptation)
            write_json(self.folder.run(name, lane.seed).path / "result.json", record)
            if lane.store:
                lane.store.finish(run.history.best_epoch)
        watch.tested(runs, [lane.fault for lane in lanes], self.data.majority_accuracy)
        if faults := [f"{name} seed {lane.seed} {lane.fault}" for lane in lanes if lane.fault]:
            raise Diverged(faults, advice(config))
        return [run for _, run in finished]

    def publish(self, figure: Path) -> None:
        """The final figure and table, to W&B where it is on."""
        self.places.publish(figure, self.names)

    def _header(self) -> dict[str, Any]:
        found = header(self.config, self.data, self.batches, self.base, self.adaptation, self.devices)
        searched = {"search": trials.results(self.folder.path)} if self.config.search.trials else {}
        return {**found, **searched, "diverged": self._faults}

    def _identity(self, setup: Setup) -> dict[str, str]:
        """What a run is a run of."""
        rates = {} if setup.factor is None else {"rates": repr(setup.factor)}
        return {"strategy": setup.fingerprint, "weights": self.base.hash, "data": self.data.hash, **rates}

    @cached_property
    def shared(self) -> Parameters:
        """The body's weights on the devices, once for all runs."""
        return self.devices.shared(dict(self.base.parameters))

    def _adapted(self, base: Base) -> tuple[Base, Adaptation | None]:
        try:
            with out_of_memory(self.config):
                end, how = self.tokenizer.end_of_text, (self.devices, self.display, self.interrupt)
                return adapted(self.config, base, self.data, end, *how)
        except Interrupted as stop:
            where = f"saved in language modelling, step {stop.step}" if stop.step else "stopped in language modelling"
            raise Stopped(where, self.interrupt.asked) from None

    def _set_up(self, strategy: Strategy, base: Base) -> Setup:
        train, steps = self.config.train, self.batches.steps_per_epoch
        plan = Plan(steps * train.epochs, steps, train.batch_size, base.config.n_layer, train)
        longest = max(int(s.tokens.lengths.max()) for s in (self.data.train, self.data.validation, self.data.test))
        most = self.config.data.max_length if self.data.truncated else longest
        setup = set_up(strategy, base, len(self.data.classes), plan, self.config.model, most)
        return started(setup, self.config, self.data.classes)


def _begin(config: Config) -> None:
    """What has to be done before JAX looks for devices."""
    check_directory()
    if config.parallel.keep_memory:
        keep_freed()  # before JAX starts its threads
    if config.train.deterministic:
        compute_deterministically()
    processes.start(config.parallel)
    if config.parallel.keep_compilations:
        keep_compilations()


def _built(strategy: Entry | Strategy, base: Base, config: Config) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    return strategy.build(config.strategies[strategy.name], base.config)
