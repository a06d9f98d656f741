"""Fair rates: each strategy gets as many trials of its learning rates, on the validation split, before the comparison.

Successive halving (Karnin et al. 2013, https://proceedings.mlr.press/v28/karnin13.html; Jamieson & Talwalkar 2016,
https://arxiv.org/abs/1502.07943) over factors by which all of a strategy's rates are multiplied. A trial is a run in
miniature: of every epoch only the first updates, with stages, warm-up and decay of that length. All have one seed, which
no run has, and read the caches that the runs read.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.encoded import Data
from flax_agnews.display import Display, Job
from flax_agnews.errors import UserError, listed
from flax_agnews.files import read_json, settings_from, write_json
from flax_agnews.folder import OutputFolder
from flax_agnews.interrupt import Interrupt, Stopped
from flax_agnews.listing import rates, short
from flax_agnews.models.parameters import Parameters
from flax_agnews.optim import Plan
from flax_agnews.shown import ShownCaching, ShownTrial
from flax_agnews.training import processes
from flax_agnews.training.activations import Activations, Inputs
from flax_agnews.training.group import Lane
from flax_agnews.training.loop import Interrupted, train
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program, plan_batches
from flax_agnews.training.state import Setup

_LAST_SEED = 2**32 - 1  # trials' seeds count down from here; runs' end at half of it


def grid(trials: int) -> list[float]:
    """Factors in steps of 10^(1/2), ascending; 1, the default, is the middle one or, of an even number, below it."""
    below = (trials - 1) // 2
    return [10 ** (step / 2) for step in range(-below, trials - below)]


def halving(trials: int, steps: int, budget: float) -> list[tuple[int, int]]:
    """For each round: how many factors train, and how many updates of every epoch each of them gets.

    Every round may cost the same, and the better half (rounded up) goes on, until one is left.

    Args:
        trials: factors.
        steps: updates of a whole epoch, the most that a trial gets; the least is 1.
        budget: of all rounds, in runs.
    """
    rounds, plan = math.ceil(math.log2(trials)), []
    for _ in range(rounds):
        plan.append((trials, min(steps, max(1, int(budget / rounds / trials * steps)))))
        trials = math.ceil(trials / 2)
    return plan


@dataclass(frozen=True)
class Trial:
    """How a factor did.

    Attributes:
        factor: on the strategy's rates.
        updates: of the trial.
        val_accuracy, val_loss: of its best epoch on validation; None where its numbers were not finite.
    """

    factor: float
    updates: int
    val_accuracy: float | None
    val_loss: float | None

    @property
    def rank(self) -> tuple[float, ...]:
        """Ascending from the best: by accuracy, then loss, then nearness to the default. Not finite is worst."""
        accuracy, loss = self.val_accuracy, self.val_loss
        scores = (math.inf, math.inf) if accuracy is None or loss is None else (-accuracy, loss)
        return *scores, abs(math.log(self.factor)), self.factor


@dataclass
class Record:
    """All that is known of a strategy's search, as its file has it.

    Attributes:
        identity: what it is a search for.
        trials: those that are finished, in order.
        factor, rates: what was chosen; None and empty until then.
        seconds: that it took, with compiling and caching.
    """

    identity: dict[str, str]
    trials: list[Trial] = field(default_factory=list)
    factor: float | None = None
    rates: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def result(self) -> dict[str, Any]:
        """What results.json has of it."""
        found = asdict(self)
        del found["identity"]
        return {**found, "updates": sum(t.updates for t in self.trials), "cost": {"seconds": found.pop("seconds")}}


class Search:
    """Chooses the rates of an experiment's strategies.

    Args:
        config: all settings.
        data: the texts.
        devices: that share every batch.
        activations: the caches of frozen layers, which the runs read later.
        folder: the experiment's; finished trials are kept in it.
    """

    def __init__(
        self, config: Config, data: Data, devices: Devices, activations: Activations, folder: OutputFolder
    ) -> None:
        self.config, self.data, self.devices, self.activations = config, data, devices, activations
        self.folder, self.seed = folder, _LAST_SEED - config.train.seed
        alone = replace(config.train, parallel_seeds=1)
        self.batches = plan_batches(data.train, alone, [self.seed], devices)
        self.rounds = halving(config.search.trials, self.batches.steps_per_epoch, config.search.budget)

    def choose(
        self, setup: Setup, shared: Parameters, identity: Mapping[str, str], display: Display, interrupt: Interrupt
    ) -> Setup:
        """A strategy at its best rates, found now or before.

        Raises:
            Stopped: on a signal; finished trials are kept.
            UserError: the folder has the search of something else.
        """
        one = _OfOne(self, setup, shared, display, interrupt)
        before = processes.of_first(asdict(one.read(identity)) if processes.is_first() else {})
        one.record = Record(**{**before, "trials": [Trial(**trial) for trial in before["trials"]]})
        if one.record.factor is None:
            try:
                one.search()
            except Interrupted:
                where = (
                    f"stopped in the search for rates of {setup.strategy.name}, {len(one.record.trials)} trials kept"
                )
                raise Stopped(where, interrupt.asked) from None
        one.tell()
        assert one.record.factor is not None
        return setup.at(one.record.factor, self.plan(setup, self.batches.steps_per_epoch))

    def plan(self, setup: Setup, steps: int) -> Plan:
        """Of runs with so many updates an epoch."""
        settings = self.config.train
        return Plan(steps * settings.epochs, steps, settings.batch_size, setup.base.config.n_layer, settings)


class _OfOne:
    """The search for one strategy's rates; arguments as `Search.choose` has them."""

    record: Record

    def __init__(self, of: Search, setup: Setup, shared: Parameters, display: Display, interrupt: Interrupt) -> None:
        self.of, self.setup, self.shared, self.display, self.interrupt = of, setup, shared, display, interrupt
        self.name, self.epochs = setup.strategy.name, of.config.train.epochs
        self._inputs: Inputs | None = None

    def read(self, identity: Mapping[str, str]) -> Record:
        """What an earlier call left."""
        return read(self.of.folder, self.name, identity) or Record(dict(identity))

    def search(self) -> None:
        """Runs what trials are still to do, and takes the best factor of the last round."""
        told = ", then ".join(f"{trials} of {steps * self.epochs:,}" for trials, steps in self.of.rounds)
        self.display.note(f"{self.name}: rates are chosen by trials on validation: {told} updates")
        left = grid(self.of.config.search.trials)
        for _, steps in self.of.rounds:
            self._round(left, steps)
            ranks = {trial.factor: trial.rank for trial in self.record.trials if trial.updates == steps * self.epochs}
            left = sorted(left, key=lambda factor: ranks[factor])[: math.ceil(len(left) / 2)]
        self.record.factor = left[0]
        self.record.rates = [rate * left[0] for rate in rates(self.setup, self.of.config.train)]
        self._write()

    def tell(self) -> None:
        """What was chosen, and where it is the first or last of what was tried."""
        factor, tried = self.record.factor, {trial.factor for trial in self.record.trials}
        assert factor is not None
        best = min(self.record.trials, key=lambda t: (-t.updates, t.rank)) if tried else None
        accuracy = f", validation accuracy {best.val_accuracy:.3f}" if best and best.val_accuracy is not None else ""
        self.display.note(f"{self.name}: rates x {factor:.3g} ({listed(map(short, self.record.rates))}){accuracy}")
        if best and best.val_accuracy is None:
            self.display.note(f"{self.name}: no trial's numbers were finite; lower the strategy's rates")
        elif tried and factor in (min(tried), max(tried)):
            where = "lowest" if factor == min(tried) else "highest"
            way = "lower" if factor == min(tried) else "raise"
            self.display.note(
                f"{self.name}: these are the {where} tried; {way} the strategy's rates, or --search.trials"
            )

    def _round(self, factors: Sequence[float], steps: int) -> None:
        """The trials of a round that nobody has made yet."""
        known = {(trial.factor, trial.updates) for trial in self.record.trials}
        todo = [factor for factor in factors if (factor, steps * self.epochs) not in known]
        if not todo:
            return
        started = time.perf_counter()
        jobs = [Job("search", f"{self.name} x {factor:.3g}", self.epochs) for factor in todo]
        self.display.plan(jobs)
        plan = self.of.plan(self.setup, steps)
        with out_of_memory(self.of.config):
            program = self._compile(self.setup.at(1.0, plan))
            for factor, job in zip(todo, jobs, strict=True):
                trial = self._trial(program.at(self.setup.at(factor, plan), program.batches.cut(steps)), factor, job)
                self.record.trials.append(processes.of_first(trial))
                now = time.perf_counter()
                self.record.seconds, started = self.record.seconds + now - started, now
                self._write()

    def _compile(self, setup: Setup) -> Program:
        """The steps of a round's trials; frozen layers cached, and no test texts to be evaluated."""
        if self._inputs is None:
            told = ShownCaching(self.display, self.name, self.interrupt)
            self._inputs = self.of.activations.inputs(self.setup, self.shared, self.of.batches, told)
        read, lengths = self._inputs, self.of.data.train.tokens.lengths
        with self.display.busy(f"compiling trials of {self.name}"):
            made = partial(Program, setup, self.of.devices, self.shared, by_stage=read.by_stage, lengths=lengths)
            return made(read.batches, {"validation": read.evaluated["validation"]})

    def _trial(self, program: Program, factor: float, job: Job) -> Trial:
        lane = Lane(self.of.seed, skip=self.of.config.train.on_nonfinite == "skip")
        watch = ShownTrial(self.display, job, self.interrupt)
        train(program, [lane], self.epochs, watch=watch)
        best, updates = lane.history.best_epoch - 1, program.batches.steps_per_epoch * self.epochs
        scores = (None, None) if lane.fault else (lane.history.val_accuracy[best], lane.history.val_loss[best])
        watch.finish(scores[0])
        return Trial(factor, updates, *scores)

    def _write(self) -> None:
        if self.of.folder.writes:
            write_json(_path(self.of.folder, self.name), asdict(self.record))


def read(folder: OutputFolder, name: str, identity: Mapping[str, str] | None = None) -> Record | None:
    """What is kept of a strategy's search; None where there is nothing.

    Raises:
        UserError: it is no such thing, or of a search for something else than `identity`.
    """
    path = _path(folder, name)
    content = read_json(path)
    if content is None:
        return None
    try:
        record = settings_from(Record, content)
        record.trials = [settings_from(Trial, dict(trial)) for trial in content.get("trials", [])]
        sound = all(trial.factor > 0 for trial in record.trials) and (record.factor is None or record.factor > 0)
        if not sound or any(type(rate) is not float for rate in record.rates):
            raise TypeError
    except (TypeError, ValueError):
        raise UserError(f"{path}: is no search of this program; remove it to have it made anew") from None
    if identity is not None and (other := [key for key in identity if record.identity.get(key) != identity[key]]):
        raise UserError(f"{path}: was begun with other {listed(other)}. Choose another --output, or --overwrite")
    return record


def chosen(config: Config, folder: OutputFolder) -> dict[str, Any]:
    """What results.json has of all searches that are finished; nothing where there are none."""
    if not config.search.trials:
        return {}
    names = sorted(path.stem for path in (folder.path / "search").glob("*.json"))
    records = {name: read(folder, name) for name in names}
    found = {name: record.result for name, record in records.items() if record and record.factor is not None}
    return {"search": found}


def _path(folder: OutputFolder, name: str) -> Any:
    return folder.path / "search" / f"{name}.json"
