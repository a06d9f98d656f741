"""Strategies x seeds -> an output folder: skips what is done, resumes what is not."""

from collections.abc import Collection, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.encoded import encode_corpus
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import check_vocabulary
from flax_agnews.errors import Diverged
from flax_agnews.experiment.compared_strategies import built, config_of, names_of, planned
from flax_agnews.experiment.continuation import Scheme, check_begun, epochs_left, going_on, to_do
from flax_agnews.experiment.disk_budget import check_room, drop_weights, keeps_final
from flax_agnews.experiment.outputs import Places
from flax_agnews.experiment.preparation import adapted, choose_tokenizer, keep_tokenizer
from flax_agnews.experiment.progress import Shown, ShownCaching, advice, announce, describe, job, silent
from flax_agnews.experiment.rate_search import Search
from flax_agnews.experiment.results import facts, header, run_record, weights_record
from flax_agnews.metrics.tracking import check_key
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.runs import trial_record
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.settings.keywords import check_config
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.files import expanded, write_json
from flax_agnews.system.interrupt import Interrupt, Stopped
from flax_agnews.training import processes
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.jax_setup import begin
from flax_agnews.training.loop import Interrupted, Run, fit
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program, plan_batches, training_loss
from flax_agnews.training.state import Setup


class Experiment:
    """A comparison of strategies on one data set and one body.

    Making one reads, checks and plans; `run` computes. As a context it gives the folder to others at its end.

    Args:
        config: all settings; left as they are. `strategy` is not read: the names of `strategies` are written there.
        strategies: what is compared: entries of the registry (built with their section of the settings), or
            strategies of one's own.
        display: where progress is shown; plain lines on standard output by default.
        overwrite: start over in a folder that is in use.

    Attributes:
        config: what config.yaml has.
        setups: the strategies on the model; once `search` is through, at their rates.
        base: the body that every run starts from; once `adapt` is through, the adapted one.
        adaptation: what language modelling did, where there was any.

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
        check_config(config)
        self.names, config = names_of(strategies), config_of(config, strategies)
        begin(config.parallel, config.train.deterministic)
        first = processes.is_first()
        self.config, self.display = config, (display or Display()) if first else silent()
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
        config = self.config = self.folder.check(self.config, overwrite)
        if self.folder.writes and self.folder.in_use:
            self.folder.lock.take()
        if self.folder.writes:
            check_key(config.tracking)
        self.devices = Devices.of(config.parallel)
        self.interrupt = Interrupt(processes.Vote(self.devices) if self.devices.several else None)
        announce(self.display, config, self.devices)
        with self.display.busy(f"reading {config.data.source}"):
            corpus = load_corpus(config.data)
        with self.display.busy(f"loading {config.model.reported_name}"):
            base = load_base(config.model, config.train.seed)
        kept = self.folder.path / "tokenizer" if self.folder.in_use and not overwrite else None
        self.tokenizer = choose_tokenizer(config, corpus, kept, self.display)
        check_vocabulary(self.tokenizer, base.config.vocab_size, config.model.reported_name)
        self.strategies = [built(strategy, base, config.strategies) for strategy in strategies]
        with self.display.busy("tokenizing"):
            self.data = encode_corpus(corpus, self.tokenizer, config.data.max_length)
        self.seeds = [config.train.seed + run for run in range(config.train.runs)]
        self.batches = plan_batches(self.data.train, config.train, self.seeds, self.devices)
        steps = self.batches.steps_per_epoch
        plans = [partial(planned, strategy, base, self.data, config, steps) for strategy in self.strategies]
        self.setups = [plan() for plan in plans]
        self.activations = Activations(config, self.data, self.devices)
        self.activations.check(self.setups)
        disk, self.keeps_final = check_room(config, self.setups), keeps_final(config, self.setups)
        pairs = zip(self.setups, plans, strict=True)
        self.schemes = {setup.name: Scheme(setup, config.train, steps, plan) for setup, plan in pairs}
        with self.display.busy("checking what the strategies do"):
            updates = {name: scheme.identity["updates"] for name, scheme in self.schemes.items()}
            for scheme in [] if overwrite else self.schemes.values():
                check_begun(self.folder, scheme, self.seeds, self.data.hash)
        processes.check_same(facts(config, self.setups, updates, self.data, base))  # all is right: now it is written
        self.folder.claim(config, overwrite)
        if self.folder.writes:
            keep_tokenizer(config, self.tokenizer, self.folder.path / "tokenizer")
        processes.meet()
        describe(self.display, config, self.data, base, self.batches, len(strategies), disk)
        self.base: Base = base
        self.adaptation: Adaptation | None = None
        self._is_adapted = False

    def run(self) -> dict[str, Any]:
        """Runs what isn't finished, and gives what results.json has. The folder is others' afterwards.

        Raises:
            Stopped: on SIGINT or SIGTERM, after saving; the same call goes on from there.
            Diverged: numbers of some runs were not finite; all others are finished.
        """
        with self:
            return self._run()

    def adapt(self) -> None:
        """Adapts the body by language modelling, where `pretrain.epochs` asks for it, unless it was before.

        Raises:
            Stopped: on a signal, after saving.
        """
        if self._is_adapted:
            return
        try:
            with out_of_memory(self.config.train, self.config.pretrain.batch_size):
                end, how = self.tokenizer.end_of_text, (self.devices, self.display, self.interrupt)
                self.base, self.adaptation = adapted(self.config, self.base, self.data, end, *how)
        except Interrupted as stop:
            where = f"saved in language modelling, step {stop.step}" if stop.step else "stopped in language modelling"
            raise Stopped(where, self.interrupt.asked) from None
        self.setups, self._is_adapted = [setup.on(self.base) for setup in self.setups], True

    def search(self) -> None:
        """Has each strategy's rates chosen, where `search.trials` asks for it, unless they were before."""
        self.adapt()
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
        train = self.config.train
        todo = processes.of_first({n: to_do(self.folder, n, self.batches.groups, train) for n in self.names})
        self.display.plan([job(name, seeds, train.epochs) for name in todo for seeds in todo[name]])
        every = len(self.strategies) * len(self.seeds)
        if done := every - sum(len(seeds) for groups in todo.values() for seeds in groups):
            self.display.note(f"{done} of {every} runs were done before")
        with self.interrupt, self.display:
            for setup in self.setups:
                if groups := todo[setup.name]:
                    self._run_strategy(setup, groups)
        found = processes.first_before_others(lambda: self.folder.write_results(self._header(), self.names))
        if self._faults:
            raise Diverged(self._faults, advice(self.config))
        return found

    def _tidy(self, setup: Setup, seed: int) -> None:
        """Checks what a run that was begun before is a run of; of a finished one, drops what it needs no more."""
        folder = self.folder.run(setup.name, seed)
        if folder.path.exists():
            folder.check(self._identity(setup))
            result = folder.result
            if result and folder.writes and not epochs_left(result, self.config.train):
                self._finish(Store(folder.path / "checkpoints"), result["best_epoch"], len(result["val_accuracy"]))

    def _finish(self, store: Store, best_epoch: int, epochs: int) -> None:
        """Keeps of a finished run what is to stay: best weights, and the state that more epochs go on from."""
        store.finish(best_epoch, epochs * self.batches.steps_per_epoch if self.keeps_final else None)

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
                left = going_on(self.folder, self.names, self.seeds, self.config.train)
                drop_weights(self.folder, self.config.checkpoint.keep_best, left)
            self.folder.write_results(self._header(), self.names)

    def compile(self, setup: Setup, group_sizes: Collection[int] = (1,)) -> Program:
        """A strategy's compiled steps, for any of the experiment's seeds, so many at a time; frozen layers cached.

        Raises:
            Stopped: on a signal during language modelling or the caching.
        """
        self.adapt()
        setup = setup.on(self.base)
        told, lengths = ShownCaching(self.display, setup.name, self.interrupt), self.data.train.tokens.lengths
        try:
            with out_of_memory(self.config.train):
                read = self.activations.inputs(setup, self.shared, self.batches, told)
        except Interrupted:
            raise Stopped("stopped while caching", self.interrupt.asked) from None
        with self.display.busy(f"compiling {setup.name}"), out_of_memory(self.config.train):
            loss = training_loss(self.data.train.labels, setup.model.classes, self.config.train)
            made = partial(Program, setup, self.devices, self.shared, evaluated=read.evaluated, by_stage=read.by_stage)
            return made(read.batches, loss=loss, group_sizes=group_sizes, lengths=lengths, cache_seconds=read.seconds)

    def train(self, program: Program, seeds: Sequence[int]) -> list[Run]:
        """Runs that train together, from where their checkpoints left off: trains, tests, writes their results.

        Raises:
            Stopped: on a signal; the runs are saved.
            Diverged: numbers of some of them were not finite; the others are finished.
        """
        config, name = self.config, program.setup.name
        steps_per_epoch, epochs = self.batches.steps_per_epoch, config.train.epochs
        watch = Shown(self.display, name, seeds, epochs, steps_per_epoch, self.interrupt)
        identity = self._identity(program.setup)
        about = weights_record(self.data, self.tokenizer, self.base)
        lanes = [self.places.lane(name, seed, identity, self.devices, about) for seed in seeds]
        try:
            with out_of_memory(config.train):
                runs = fit(program, lanes, epochs, saving=self.places.saving(name, self.keeps_final), watch=watch)
            finished = [(lane, run) for lane, run in zip(lanes, runs, strict=True) if run]
            for lane, run in finished:
                tested = {"test/loss": run.test.loss, "test/accuracy": run.test.accuracy}
                last = steps_per_epoch * len(run.history.val_accuracy)
                lane.tracker.log({**tested, "total_train_time": run.history.train_seconds}, last)
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
            lane.finish(self.places.saving(name, self.keeps_final))
            record = run_record(program, lane.seed, run, self.adaptation, config)
            write_json(self.folder.run(name, lane.seed).path / "result.json", record)
            if lane.store:
                self._finish(lane.store, run.history.best_epoch, len(run.history.val_accuracy))
        watch.tested(runs, [lane.fault for lane in lanes], self.data.majority_accuracy)
        if faults := [f"{name} seed {lane.seed} {lane.fault}" for lane in lanes if lane.fault]:
            raise Diverged(faults, advice(config))
        return [run for _, run in finished]

    def publish(self, figure: Path) -> None:
        """The final figure and table, to W&B where it is on."""
        self.places.publish(figure, self.names)

    def _header(self) -> dict[str, Any]:
        found = header(self.config, self.data, self.batches, self.base, self.adaptation, self.devices)
        searched = {"search": trial_record.results(self.folder.path)} if self.config.search.trials else {}
        return {**found, **searched, "diverged": self._faults}

    def _identity(self, setup: Setup) -> dict[str, str]:
        """What a run is a run of."""
        rates = {} if setup.factor is None else {"rates": repr(setup.factor)}
        strategy, planned = setup.model.fingerprint, self.schemes[setup.name].identity
        return {"strategy": strategy, **planned, "weights": self.base.hash, "data": self.data.hash, **rates}

    @cached_property
    def shared(self) -> Parameters:
        """The body's weights on the devices, once for all runs."""
        return self.devices.shared(dict(self.base.parameters))
