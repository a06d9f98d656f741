"""Strategies x seeds -> an output folder: skips what is done, resumes what is not."""

from collections.abc import Collection, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flax_agnews import __version__
from flax_agnews.config import Config, check_ranges
from flax_agnews.data.encoded import encode_corpus
from flax_agnews.data.sources import Corpus, load_corpus
from flax_agnews.data.tokens import Tokenizer, cache_folder, check_vocabulary, load_tokenizer, train_tokenizer
from flax_agnews.display import Display
from flax_agnews.errors import Diverged
from flax_agnews.files import write_json
from flax_agnews.folder import OutputFolder, config_dict
from flax_agnews.interrupt import Interrupt, Stopped
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base, load_base, read_config
from flax_agnews.optim import Plan
from flax_agnews.records import data_record, environment, model_record, pretrain_record, run_record
from flax_agnews.shown import Shown, ShownCaching, advice, announce, describe, job
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.tracking import Tracker, check_key, open_tracker
from flax_agnews.training import pretrain
from flax_agnews.training.activations import Activations
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.group import Lane
from flax_agnews.training.loop import Interrupted, Run, fit
from flax_agnews.training.memory import keep_freed
from flax_agnews.training.parallel import Devices, keep_compilations
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
        self.config, self.display = config, display or Display()
        self.names = [strategy.name for strategy in strategies]
        for entry in strategies:
            if isinstance(entry, Entry):
                config.strategies.setdefault(entry.name, entry.settings())
        self.folder = OutputFolder(Path(config.output).expanduser())
        self.folder.check(config, overwrite)
        check_key(config.tracking)
        if config.parallel.keep_memory:
            keep_freed()  # before JAX starts its threads
        if config.parallel.keep_compilations:
            keep_compilations(cache_folder() / "compiled")
        self.devices = Devices.of(config.parallel)
        announce(self.display, config, self.devices)
        self._hints: set[str] = set()
        with self.display.busy(f"reading {config.data.source}"):
            corpus = load_corpus(config.data)
        with self.display.busy(f"loading {_model_name(config)}"):
            base = load_base(config.model, config.train.seed)
        self.tokenizer = self._tokenizer(corpus, anew=overwrite or not self.folder.in_use)
        check_vocabulary(self.tokenizer, base.config.vocab_size, _model_name(config))
        self.strategies = [_built(strategy, base, config) for strategy in strategies]
        with self.display.busy("tokenizing"):
            self.data = encode_corpus(corpus, self.tokenizer, config.data.max_length)
        self.seeds = [config.train.seed + run for run in range(config.train.runs)]
        self.batches = plan_batches(self.data.train, config.train, self.seeds, self.devices)
        setups = [self._set_up(strategy, base) for strategy in self.strategies]
        self.activations = Activations(config, self.data, self.devices)
        self.activations.check(setups)
        self.folder.claim(config, overwrite)
        self._keep_tokenizer()
        describe(self.display, config, self.data, base, self.batches, len(strategies))
        self.base, self.adaptation = self._adapted(base)
        self.setups = [replace(setup, base=self.base) for setup in setups]

    def run(self) -> dict[str, Any]:
        """Runs what isn't finished, and gives what results.json has.

        Raises:
            Stopped: on SIGINT or SIGTERM, after saving; the same call goes on from there.
            Diverged: numbers of some runs were not finite; all others are finished.
        """
        for setup in self.setups:  # finished runs too: an edited strategy must not pass for the one that ran
            for seed in self.seeds:
                if (folder := self.folder.run(setup.strategy.name, seed)).path.exists():
                    folder.claim(self._identity(setup))
        self._faults: list[str] = []  # runs that stop because their numbers are not finite
        todo = {strategy.name: self._to_do(strategy.name) for strategy in self.strategies}
        epochs = self.config.train.epochs
        self.display.plan([job(name, seeds, epochs) for name in todo for seeds in todo[name]])
        every = len(self.strategies) * len(self.seeds)
        if done := every - sum(len(seeds) for groups in todo.values() for seeds in groups):
            self.display.note(f"{done} of {every} runs were done before")
        with Interrupt() as interrupt, self.display:
            for setup in self.setups:
                if groups := todo[setup.strategy.name]:
                    self._run_strategy(setup, groups, interrupt)
        found = self.folder.write_results(self._header(), self.names)
        if self._faults:
            raise Diverged(self._faults, advice(self.config))
        return found

    def _to_do(self, name: str) -> list[list[int]]:
        """The seeds of a strategy that aren't finished; those that train together in one list."""
        left = [[k for k in group if self.folder.run(name, k).result is None] for group in self.batches.groups]
        return [group for group in left if group]

    def _run_strategy(self, setup: Setup, groups: Sequence[Sequence[int]], interrupt: Interrupt) -> None:
        """Compiles a strategy once, and runs its seeds."""
        program = self.compile(setup, {len(seeds) for seeds in groups}, interrupt)
        for seeds in groups:
            if interrupt.asked:
                raise Stopped("stopped between runs", interrupt.asked)
            try:
                self.train(program, seeds, interrupt)
            except Diverged as stopped:  # the others go on
                self._faults += stopped.faults
            self.folder.write_results(self._header(), self.names)

    def compile(self, setup: Setup, group_sizes: Collection[int] = (1,), interrupt: Interrupt | None = None) -> Program:
        """A strategy's compiled steps, for any of the experiment's seeds, so many at a time; frozen layers cached.

        Raises:
            Stopped: `interrupt` was asked for during the caching.
        """
        told, lengths = ShownCaching(self.display, setup.strategy.name, interrupt), self.data.train.tokens.lengths
        try:
            read = self.activations.inputs(setup, self.shared, self.batches, told)
        except Interrupted:
            raise Stopped("stopped while caching", interrupt.asked if interrupt else 0) from None
        with self.display.busy(f"compiling {setup.strategy.name}"):
            compiled = partial(Program, setup, self.devices, self.shared, read.batches, read.evaluated)
            return compiled(group_sizes=group_sizes, lengths=lengths, cache_seconds=read.seconds)

    def train(self, program: Program, seeds: Sequence[int], interrupt: Interrupt) -> list[Run]:
        """Runs that train together, from where their checkpoints left off: trains, tests, writes their results.

        Raises:
            Stopped: `interrupt` was asked for; the runs are saved.
            Diverged: numbers of some of them were not finite; the others are finished.
        """
        config, name = self.config, program.setup.strategy.name
        steps_per_epoch, epochs = self.batches.steps_per_epoch, config.train.epochs
        watch = Shown(self.display, name, seeds, epochs, steps_per_epoch, interrupt)
        lanes = [self._lane(program.setup, seed, keep=min(len(seeds), 2)) for seed in seeds]
        try:
            runs = fit(program, lanes, epochs, every_steps=config.checkpoint.every_steps, watch=watch)
            finished = [(lane, run) for lane, run in zip(lanes, runs, strict=True) if run]
            for lane, run in finished:
                tested = {"test/loss": run.test.loss, "test/accuracy": run.test.accuracy}
                lane.tracker.log({**tested, "total_train_time": run.history.train_seconds}, steps_per_epoch * epochs)
        except Interrupted as stop:
            where = ", ".join(f"{name}/seed-{seed}" for seed in seeds)
            told = f"saved at {where}, step {stop.step}" if lanes[0].store else f"stopped in {where}, not saved"
            raise Stopped(told, interrupt.asked) from None
        finally:
            for lane in lanes:
                lane.tracker.finish()
        for lane, run in finished:
            record = run_record(program, lane.seed, run, self.adaptation)
            write_json(self.folder.run(name, lane.seed).path / "result.json", record)
            if lane.store:
                lane.store.finish()
        watch.tested(runs, [lane.fault for lane in lanes], self.data.majority_accuracy)
        if faults := [f"{name} seed {lane.seed} {lane.fault}" for lane in lanes if lane.fault]:
            raise Diverged(faults, advice(config))
        return [run for _, run in finished]

    def _lane(self, setup: Setup, seed: int, keep: int) -> Lane:
        """One run, and the places in its folder; `keep` states are kept."""
        name = setup.strategy.name
        folder = self.folder.run(name, seed)
        folder.claim(self._identity(setup))
        store = Store(folder.path / "checkpoints", keep) if self.config.checkpoint.enabled else None
        tracker = self._tracker(f"{name} seed {seed}", name, folder.path)
        return Lane(seed, store, folder.path / "metrics.jsonl", tracker, self.config.train.on_nonfinite == "skip")

    def _identity(self, setup: Setup) -> dict[str, str]:
        """What a run is a run of."""
        return {"strategy": setup.fingerprint, "weights": self.base.hash, "data": self.data.hash}

    @cached_property
    def shared(self) -> Parameters:
        """The body's weights on the devices, once for all runs."""
        return self.devices.shared(dict(self.base.parameters))

    def publish(self, figure: Path) -> None:
        """The final figure and table, to W&B where it is on."""
        tracker = self._tracker("comparison", "comparison", self.folder.path)
        runs = self.folder.finished(self.names)
        columns = ["strategy", "seed", "test_accuracy", "test_macro_f1", "trainable_parameters"]
        tracker.table("results", columns, [[run[column] for column in columns] for run in runs])
        tracker.figure("accuracy_curves", figure)
        tracker.finish()

    def _header(self) -> dict[str, Any]:
        return {
            "flax_agnews": __version__,
            "data": data_record(self.data, self.batches),
            "model": model_record(self.base, self.config.model.dtype),
            "pretrain": pretrain_record(self.adaptation, self.config.pretrain.epochs),
            "diverged": self._faults,
            "environment": environment(self.devices),
            "settings": asdict(self.config.train),
        }

    def _tracker(self, name: str, group: str, folder: Path) -> Tracker:
        tracker, hint = open_tracker(
            self.config.tracking,
            name=name,
            group=group,
            settings=config_dict(self.config),
            folder=folder,
            note=self.display.note,
        )
        if hint and hint not in self._hints:
            self._hints.add(hint)
            self.display.note(hint)
        return tracker

    def _tokenizer(self, corpus: Corpus, anew: bool) -> Tokenizer:
        """The one that is named; for random weights without one, a vocabulary of the training texts."""
        model, kept = self.config.model, self.folder.path / "tokenizer"
        if model.tokenizer or model.from_config is None:
            return load_tokenizer(model.tokenizer or model.name)
        if (kept / "merges.txt").exists() and not anew:
            return load_tokenizer(str(kept))
        vocabulary = read_config(model.from_config).vocab_size
        with (
            self.display.busy(f"making a vocabulary of {vocabulary:,} from the training texts"),
            TemporaryDirectory() as d,
        ):
            train_tokenizer(corpus.train.texts, vocabulary).save(Path(d))
            return load_tokenizer(d)

    def _keep_tokenizer(self) -> None:
        """The vocabulary that was made for this experiment stays in its folder."""
        if self.config.model.from_config is not None and not self.config.model.tokenizer:
            self.tokenizer.save(self.folder.path / "tokenizer")

    def _set_up(self, strategy: Strategy, base: Base) -> Setup:
        train, steps = self.config.train, self.batches.steps_per_epoch
        plan = Plan(steps * train.epochs, steps, train.batch_size, base.config.n_layer, train)
        longest = max(int(s.tokens.lengths.max()) for s in (self.data.train, self.data.validation, self.data.test))
        most = self.config.data.max_length if self.data.truncated else longest
        return set_up(strategy, base, len(self.data.classes), plan, self.config.model, most)

    def _adapted(self, base: Base) -> tuple[Base, pretrain.Adaptation | None]:
        """The body after language-model adaptation, from where it was kept or computed now."""
        config, home = self.config, self.folder.path / "base"
        if not config.pretrain.epochs:
            if not base.given_again and not (home / "model.safetensors").exists():
                base.save(home)
            return base, None
        train, end, seed = self.data.train, self.tokenizer.end_of_text, config.train.seed
        key = pretrain.adaptation_key(base, train, end, config.pretrain, config.model, seed)
        cache = cache_folder() / "adapted" / key
        found = pretrain.kept(base, key, [home, cache])
        if found:
            self.display.note(f"pretrain: took the body adapted before ({found[0].hash[:12]})")
        else:
            with self.display:
                progress = self.display.start("pretrain", "", config.pretrain.epochs)
                told = progress.step
                found = pretrain.adapt(base, train, end, config.pretrain, config.model, self.devices, seed, told)
                ends = dict.fromkeys(f"{loss:.2f}" for loss in (found[1].loss[0], found[1].loss[-1]))
                progress.finish(f"loss {' → '.join(ends)}")
        for folder in (home, cache):
            pretrain.keep(*found, folder)
        return found


def _model_name(config: Config) -> str:
    return config.model.name if config.model.from_config is None else "model.from_config"


def _built(strategy: Entry | Strategy, base: Base, config: Config) -> Strategy:
    if isinstance(strategy, Strategy):
        return strategy
    return strategy.build(config.strategies[strategy.name], base.config)
