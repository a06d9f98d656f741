"""Chooses learning rates: every strategy gets the same number of trials, scored on the validation split.

A trial is a short run with all of the strategy's learning rates multiplied by a factor. It makes only the first updates
of every epoch; stages, warm-up and decay are shortened alike. All trials have one seed, which no run has, and share the
caches of frozen layers with the runs.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from threading import Lock

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.errors import listed
from flax_agnews.experiment.jobs import each_on_devices
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.progress import CachingObserver, JobObserver, compiling
from flax_agnews.models.parameters import Parameters
from flax_agnews.runs import trial_record
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.trial_record import Record, Trial
from flax_agnews.system.display import Display, Job
from flax_agnews.system.files import write_json
from flax_agnews.system.interrupt import Interrupt, Stopped
from flax_agnews.system.text import counted
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.lane import Lane
from flax_agnews.training.loop import train_group
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.observer import Interrupted
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program, training_loss
from flax_agnews.training.rates import short, strategy_rates
from flax_agnews.training.state import Setup

_LAST_SEED = 2**32 - 1  # trials' seeds count down from here; runs' seeds end at half of it
_SHAPES = 2  # most compiled shapes of a trial, unless chosen: it is so short that padding costs less than compiling


class Search:
    """Chooses the learning rates of an experiment's strategies.

    Args:
        config: all settings.
        data: the tokenized splits.
        activations: the caches of frozen layers' output; trials run on its devices.
        compiler: compiles the steps of trials and runs, for those devices.
        workers: the devices that train a trial at a time; the first are those.
        weights: gives the body's weights on the devices of a worker.
        folder: the experiment's output folder, which keeps finished trials.
        display: where progress is shown.
        interrupt: tells whether a signal asked to stop.
    """

    def __init__(
        self,
        config: Config,
        data: Data,
        activations: Activations,
        compiler: Compiler,
        workers: Sequence[Devices],
        weights: Callable[[Devices], Parameters],
        folder: OutputFolder,
        display: Display,
        interrupt: Interrupt,
    ) -> None:
        self.config, self.data, self.activations, self.devices = config, data, activations, activations.devices
        self.compiler, self._weights = compiler, weights
        self._workers, self._writing = workers, Lock()
        self.folder, self.display, self.interrupt = folder, display, interrupt
        self.seed, self.epochs = _LAST_SEED - config.train.seed, config.train.epochs

    @classmethod
    def of(cls, made: Prepared, weights: Callable[[Devices], Parameters]) -> "Search":
        """The search of an experiment; `weights` gives the body's on the devices of a worker."""
        parts = made.activations, made.compiler, made.workers, weights
        return cls(made.config, made.data, *parts, made.folder, made.display, made.interrupt)

    @cached_property
    def batches(self) -> TrainBatches:
        """The batches of a full run with the trials' seed."""
        shapes = self.config.train.shapes
        alone = replace(
            self.config.train, parallel_seeds=1, shapes="auto" if shapes == "auto" else min(_SHAPES, shapes)
        )
        return plan_batches(self.data.train, alone, [self.seed], self.devices, self.activations.prices)

    def choose(self, setup: Setup, identity: Mapping[str, str]) -> Setup:
        """The strategy at its best learning rates, found by trials now, or read from an earlier call's record.

        Args:
            setup: the strategy on the model.
            identity: hashes that must match before a recorded search is resumed.

        Raises:
            Stopped: on a signal; finished trials are kept.
            UserError: the folder has a search with another identity.
        """
        name, folder = setup.name, self.folder.path
        record = Record.of(self.devices.team.of_first(asdict(trial_record.read_own(folder, name, identity))))
        if record.factor is None:
            try:
                with out_of_memory(self.config.train):
                    self._search(setup, record)
            except Interrupted:
                kept = f"{counted(len(record.trials), 'trial')} kept"
                raise Stopped(f"stopped in the search for rates of {name}, {kept}", self.interrupt.asked) from None
        self._report(name, record)
        assert record.factor is not None
        return setup.at(record.factor)

    def _search(self, setup: Setup, record: Record) -> None:
        """Runs the missing trials, and records the best factor of the last round."""
        name, left = setup.name, trial_record.grid(self.config.search.trials)
        program = self._compiled(setup.at(1.0), record)
        placed = {program.devices: program}
        steps, settings = self.batches.steps_per_epoch, self.config.search
        for each in trial_record.halving(settings.trials, steps, settings.budget):
            batches, updates = self.batches.cut(each), each * self.epochs
            known = {trial.factor for trial in record.trials if trial.updates == updates}
            if todo := {factor: setup.at(factor, steps // each) for factor in left if factor not in known}:
                self.display.note(f"{name}: {counted(len(left), 'rate')} are tried, {counted(updates, 'update')} each")
                self._round(todo, batches, placed, record)
            left = record.ranked(left, updates)[: trial_record.half(len(left))]
        record.factor = left[0]
        record.rates = [rate * left[0] for rate in strategy_rates(setup.model, self.config.train)]
        self._write(name, record)

    def _compiled(self, setup: Setup, record: Record) -> Program:
        """Compiles the steps of all trials; the test split is left out."""
        started, name, shared = time.perf_counter(), setup.name, self._weights(self.devices)
        observer = CachingObserver(self.display, name, self.interrupt)
        inputs = self.activations.inputs(setup, shared, self.batches, observer)
        inputs = replace(inputs, evaluated={"validation": inputs.evaluated["validation"]})
        with compiling(self.display, f"{name}, for trials", self.devices.platform):
            loss = training_loss(self.data.train.labels, setup.model.classes, self.config.train)
            program = Program(setup, self.devices, shared, inputs, loss, compiler=self.compiler)
        record.seconds += time.perf_counter() - started
        return program

    def _round(
        self, setups: Mapping[float, Setup], batches: TrainBatches, placed: dict[Devices, Program], record: Record
    ) -> None:
        """Runs one trial per factor, and records each as soon as it is finished.

        Args:
            setups: factor -> the strategy at its rates.
            batches: the batches of each trial.
            placed: the strategy's program on each worker's devices, added where it is missing.
            record: the record, in which a round's trials stand in the order of the factors.
        """
        [name] = {setup.name for setup in setups.values()}
        jobs = {factor: Job("search", f"{name} x {factor:.3g}", self.epochs) for factor in setups}
        self.display.plan(list(jobs.values()), at_once=len(self._workers))
        before, found = record.trials, dict[float, Trial]()

        def act(factor: float, devices: Devices) -> None:
            if self.interrupt.check(now=True):
                raise Interrupted(0)
            started = time.perf_counter()
            if devices not in placed:
                placed[devices] = placed[self.devices].on(devices, self._weights(devices))
            trial = self._trial(placed[devices].at(setups[factor], batches), factor, jobs[factor])
            with self._writing:
                found[factor] = Trial(**self.devices.team.of_first(asdict(trial)))
                record.trials = [*before, *(found[each] for each in setups if each in found)]
                record.seconds += time.perf_counter() - started
                self._write(name, record)

        each_on_devices(setups, act, self._workers, self.interrupt)

    def _trial(self, program: Program, factor: float, job: Job) -> Trial:
        """Trains one trial; returns its best validation scores, None where its numbers were not finite."""
        lane = Lane(self.seed, skip=self.config.train.on_nonfinite == "skip")
        observer = JobObserver(self.display, job, self.interrupt)
        observer.start()
        train_group(program, [lane], self.epochs, observer=observer)
        history, updates = lane.history, program.batches.steps_per_epoch * self.epochs
        if lane.fault:
            observer.finish("not finite", whole=False)
            return Trial(factor, updates, None, None)
        best = history.best_epoch - 1
        observer.finish(f"val {history.val_accuracy[best]:.3f}")
        return Trial(factor, updates, history.val_accuracy[best], history.val_loss[best])

    def _report(self, name: str, record: Record) -> None:
        """Reports the chosen rates, and whether better ones may lie outside the range that was tried."""
        what = f"{name}: rates x {record.factor:.3g} ({listed(map(short, record.rates))})"
        best = record.best
        if best.val_accuracy is None:
            return self.display.note(f"{what}: none that was tried had finite numbers; lower the strategy's own")
        edge = f", the {record.edge} that were tried: better ones may lie beyond" if record.edge else ""
        self.display.note(f"{what}, validation accuracy {best.val_accuracy:.3f}{edge}")

    def _write(self, name: str, record: Record) -> None:
        if self.folder.writes_runs:
            write_json(trial_record.path_of(self.folder.path, name), asdict(record))
