"""Strategies x seeds -> an output folder: skips what is done, resumes what is not."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.errors import Diverged
from flax_agnews.experiment.compared_strategies import config_of, names_of
from flax_agnews.experiment.continuation import going_on, to_do
from flax_agnews.experiment.disk_budget import drop_weights
from flax_agnews.experiment.preparation import adapted
from flax_agnews.experiment.prepared import Prepared, prepare
from flax_agnews.experiment.progress import Shown, ShownCaching, advice, job
from flax_agnews.experiment.rate_search import Search
from flax_agnews.experiment.results import run_result
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.result_files import write_run
from flax_agnews.runs.results import Results
from flax_agnews.settings.keywords import check_config
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.interrupt import Interrupt, Stopped
from flax_agnews.trained.finished_run import weights_record
from flax_agnews.training import processes
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.loop import Interrupted, Run, fit
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program, training_loss
from flax_agnews.training.state import Setup


class Experiment:
    """A comparison of fine-tuning strategies on one data set and one body, with some seeds each.

    Making one checks the settings and does nothing else. `run` does everything; `adapt`, `search`, `compile` and
    `train` do a part of it each. The first of these that is called, or the first attribute that needs it, calls
    `prepare`. As a context manager it releases the output folder's lock at its end.

    Args:
        config: all settings; a copy is taken. `config.strategy` isn't read: config.yaml gets the names of `strategies`.
        strategies: what is compared: names of registered strategies, such as "lora"; entries of the registry, such as
            `flax_agnews.lora(rank=4)`; or strategies of one's own. Those without settings have `config.strategies`'.
        display: where progress is shown; plain lines on standard output by default.
        overwrite: start over in an output folder that is in use.

    Attributes:
        names: of the strategies.
        seeds: of the runs of each strategy.
        adaptation: what language-model adaptation of the body gave; None before it, and where there is none.

    Raises:
        UserError: settings or strategies that can't be.
    """

    def __init__(
        self,
        config: Config,
        strategies: Sequence[Entry | Strategy],
        display: Display | None = None,
        overwrite: bool = False,
    ) -> None:
        check_config(config)
        self.names, self._config = names_of(strategies), config_of(config, strategies)
        self.seeds = [config.train.seed + run for run in range(config.train.runs)]
        self.adaptation: Adaptation | None = None
        self._to_prepare = partial(prepare, self._config, strategies, self.seeds, display, overwrite)
        self._prepared: Prepared | None = None
        self._base: Base | None = None  # once adapted
        self._setups: Sequence[Setup] | None = None  # once adapted, and at the rates that were searched
        self._faults: list[str] = []  # runs that stop because their numbers are not finite

    def prepare(self) -> Prepared:
        """Reads data and model, checks that all fits together and claims the output folder, unless it was done before.

        Raises:
            UserError: bad input; nothing has been computed or written.
        """
        if self._prepared is None:
            self._prepared = self._to_prepare()
        return self._prepared

    @property
    def config(self) -> Config:
        """All settings, as config.yaml has them."""
        return self._prepared.config if self._prepared else self._config

    @property
    def folder(self) -> OutputFolder:
        """The output folder."""
        return self.prepare().folder

    @property
    def display(self) -> Display:
        """Where progress is shown."""
        return self.prepare().display

    @property
    def interrupt(self) -> Interrupt:
        """Says whether SIGINT or SIGTERM has asked to stop."""
        return self.prepare().interrupt

    @property
    def devices(self) -> Devices:
        """The devices that share every batch."""
        return self.prepare().devices

    @property
    def data(self) -> Data:
        """The tokenized training, validation and test splits."""
        return self.prepare().data

    @property
    def batches(self) -> TrainBatches:
        """Which texts are in which update, of every run."""
        return self.prepare().batches

    @property
    def base(self) -> Base:
        """The body that every run starts from; after `adapt`, the adapted one."""
        return self._base or self.prepare().base

    @property
    def setups(self) -> Sequence[Setup]:
        """The strategies on the model; after `search`, at the rates that it chose."""
        return self._setups or self.prepare().setups

    def run(self) -> Results:
        """Trains all runs that aren't finished, and returns the results. Releases the output folder's lock.

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
        if self._base is not None:
            return
        try:
            with out_of_memory(self.config, language=True):
                end, how = self.prepare().tokenizer.end_of_text, (self.devices, self.display, self.interrupt)
                base, self.adaptation = adapted(self.config, self.base, self.data, end, *how)
        except Interrupted as stop:
            where = f"saved in language modelling, step {stop.step}" if stop.step else "stopped in language modelling"
            raise Stopped(where, self.interrupt.asked) from None
        self._base, self._setups = base, [replace(setup, base=base) for setup in self.setups]

    def search(self) -> None:
        """Has each strategy's rates chosen, where `search.trials` asks for it, unless they were before."""
        self.adapt()
        if self.config.search.trials:
            made = self.prepare()
            what = (self.config, self.data, self.devices, made.activations)
            search = Search(*what, self.folder, self.display, self.interrupt)
            with self.interrupt, self.display:
                self._setups = [search.choose(s, self.shared, made.identity(s, self.base)) for s in self.setups]

    def __enter__(self) -> "Experiment":
        return self

    def __exit__(self, *_: object) -> None:
        if self._prepared:
            self._prepared.folder.lock.release()

    def _run(self) -> Results:
        self.search()
        made = self.prepare()
        for setup in self.setups:  # finished runs too: an edited strategy must not pass for the one that ran
            for seed in self.seeds:
                made.tidy(setup.strategy.name, seed, made.identity(setup, self.base))
        train = self.config.train
        todo = processes.of_first({n: to_do(self.folder, n, self.batches.groups, train) for n in self.names})
        self.display.plan([job(name, seeds, train.epochs) for name in todo for seeds in todo[name]])
        every = len(self.names) * len(self.seeds)
        if done := every - sum(len(seeds) for groups in todo.values() for seeds in groups):
            self.display.note(f"{done} of {every} runs were done before")
        with self.interrupt, self.display:
            for setup in self.setups:
                if groups := todo[setup.strategy.name]:
                    self._run_strategy(setup, groups)
        found = processes.first_before_others(self._write_results)
        if self._faults:
            raise Diverged(self._faults, advice(self.config))
        return found

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
            self._write_results()

    def compile(self, setup: Setup, group_sizes: Collection[int] = (1,)) -> Program:
        """A strategy's compiled steps, for any of the experiment's seeds, so many at a time; frozen layers cached.

        Raises:
            Stopped: on a signal during language modelling or the caching.
        """
        self.adapt()
        setup = replace(setup, base=self.base)
        told, lengths = ShownCaching(self.display, setup.strategy.name, self.interrupt), self.data.train.tokens.lengths
        try:
            with out_of_memory(self.config):
                read = self.prepare().activations.inputs(setup, self.shared, self.batches, told)
        except Interrupted:
            raise Stopped("stopped while caching", self.interrupt.asked) from None
        with self.display.busy(f"compiling {setup.strategy.name}"), out_of_memory(self.config):
            loss = training_loss(self.data.train.labels, setup.classes, self.config.train)
            made = partial(Program, setup, self.devices, self.shared, evaluated=read.evaluated, by_stage=read.by_stage)
            return made(read.batches, loss=loss, group_sizes=group_sizes, lengths=lengths, cache_seconds=read.seconds)

    def train(self, program: Program, seeds: Sequence[int]) -> list[Run]:
        """Runs that train together, from where their checkpoints left off: trains, tests, writes their results.

        Raises:
            Stopped: on a signal; the runs are saved.
            Diverged: numbers of some of them were not finite; the others are finished.
        """
        made, config, name = self.prepare(), self.config, program.setup.strategy.name
        steps_per_epoch, epochs = self.batches.steps_per_epoch, config.train.epochs
        watch = Shown(self.display, name, seeds, epochs, steps_per_epoch, self.interrupt)
        identity = made.identity(program.setup, self.base)
        about = weights_record(self.data.classes, made.tokenizer, self.base.config)
        lanes = [made.places.lane(name, seed, identity, self.devices, about) for seed in seeds]
        saving = made.places.saving(name, made.keeps_final)
        try:
            with out_of_memory(config):
                runs = fit(program, lanes, epochs, saving=saving, watch=watch)
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
            lane.finish(saving)
            result = run_result(program, lane.seed, run, self.adaptation, epochs, name in config.custom)
            write_run(self.folder.run(name, lane.seed).path / "result.json", result)
            if lane.store:
                made.finish(lane.store, run.history.best_epoch, len(run.history.val_accuracy))
        watch.tested(runs, [lane.fault for lane in lanes], self.data.majority_accuracy)
        if faults := [f"{name} seed {lane.seed} {lane.fault}" for lane in lanes if lane.fault]:
            raise Diverged(faults, advice(config))
        return [run for _, run in finished]

    def _write_results(self) -> Results:
        above = self.prepare().header(self.base, self.adaptation, self._faults)
        return self.folder.write_results(above, self.names)

    def publish(self, figure: Path) -> None:
        """The final figure and table, to W&B where it is on."""
        self.prepare().places.publish(figure, self.names)

    @cached_property
    def shared(self) -> Parameters:
        """The body's weights on the devices, once for all runs."""
        return self.devices.shared(dict(self.base.parameters))
