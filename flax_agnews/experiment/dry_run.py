"""`--dry_run`: what an experiment would run, where, and what that takes; nothing is written into the output folder."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from flax_agnews.config import Config
from flax_agnews.data.batches import TrainBatches
from flax_agnews.errors import UserError, flag
from flax_agnews.experiment.compared_strategies import compared, config_of
from flax_agnews.experiment.continuation import to_do
from flax_agnews.experiment.disk_budget import need
from flax_agnews.experiment.planning import Slot, TimedJob, largest_run, makespan, schedule, spread
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.start import prepare
from flax_agnews.experiment.work import Cost, Costs, Counted, Left, Measured, adapting_flops
from flax_agnews.runs import trial_record
from flax_agnews.settings.keywords import check_config
from flax_agnews.strategies import StrategyLike
from flax_agnews.system.display import Display
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.device_table import KINDS, Kind
from flax_agnews.training.flops import Amount, training_flops
from flax_agnews.training.memory import out_of_memory
from flax_agnews.training.memory_plan import RunMemory, estimated_memory, memory_limit
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Inputs
from flax_agnews.training.shape_prices import Prices
from flax_agnews.training.state import Setup


@dataclass(frozen=True)
class Row:
    """A strategy of a dry run.

    Attributes:
        strategy: its name.
        done: number of runs that were finished before.
        groups: its runs that are left, in groups that train together.
        tokens: tokens of all of these, without padding.
        padding: share of padding in what is computed.
        memory: estimated bytes of a group of runs on each of its devices.
        cost: its seconds.
    """

    strategy: str
    done: int
    groups: tuple[Left, ...]
    tokens: int
    padding: float
    memory: RunMemory
    cost: Cost

    @property
    def runs(self) -> int:
        """Number of runs that are left."""
        return sum(len(group.seeds) for group in self.groups)

    @property
    def steps(self) -> int:
        """Number of updates of all runs that are left."""
        return sum(len(group.seeds) * group.steps for group in self.groups)


@dataclass(frozen=True)
class DryRun:
    """What an experiment would run.

    Attributes:
        rows: the strategies.
        kind: kind of the devices: cpu, gpu or tpu; or a name of `device_table.KINDS`.
        devices: number of devices.
        apart: whether each device has a run of its own; otherwise every batch is split over all of them.
        slots: when and where each group of runs begins and ends.
        disk: most bytes that weights and checkpoints take.
        limit: bytes that a device has; None if unknown.
        starting, adapting, searching: seconds of reading and checking; of language modelling; of searches for rates.
        config: all settings.
    """

    rows: Sequence[Row]
    kind: str
    devices: int
    apart: bool
    slots: Sequence[Slot]
    disk: int
    limit: int | None
    starting: float
    adapting: float
    searching: float
    config: Config

    @property
    def seconds(self) -> float:
        """Seconds of the whole experiment."""
        return self.starting + self.adapting + self.searching + makespan(self.slots)


def dry_run(
    config: Config, strategies: Sequence[StrategyLike], display: Display | None = None, overwrite: bool = False
) -> DryRun:
    """Plans an experiment: arguments as of `Experiment`; reads and checks what it would, and writes nothing there.

    Raises:
        UserError: what `Experiment.prepare` would raise; several processes.
    """
    check_config(config)
    if config.parallel.coordinator:
        raise UserError(f"a dry run is for one process; leave out {flag('parallel.coordinator')}")
    if config.parallel.engine == "ray":
        how = f"leave out {flag('parallel.engine')}, and give {flag('plan.devices')} for those of the cluster"
        raise UserError(f"a dry run is for the devices of one machine; {how}")
    started, chosen = time.perf_counter(), compared(strategies)
    seeds = [config.train.seed + run for run in range(config.train.runs)]
    made = prepare(config_of(config, chosen), chosen, seeds, display, overwrite, claim=False)
    starting = time.perf_counter() - started
    left = {setup.name: _left(made, setup, overwrite) for setup in made.setups}
    with made.display, out_of_memory(made.config.train):
        return _planned(made, left, seeds, starting)


def _left(made: Prepared, setup: Setup, overwrite: bool) -> tuple[Left, ...]:
    """A strategy's runs that are left. A `UserError` where a run was begun with something else."""
    groups, train, per_epoch = made.groups[setup.name], made.config.train, made.batches.steps_per_epoch
    if overwrite:
        return tuple(Left(tuple(seeds), train.epochs * per_epoch) for seeds in groups)
    identity = made.identity(setup, made.base)
    known = {k: v for k, v in identity.items() if k != "weights" or not made.config.pretrain.epochs}
    for seeds in groups:
        for seed in seeds:
            made.folder.run(setup.name, seed).check(known)
    found = []
    for seeds in to_do(made.folder, setup.name, groups, train):
        runs = [made.folder.run(setup.name, seed) for seed in seeds]
        saved = [max(Store(run.path / "checkpoints").steps, default=0) for run in runs]
        begun = min(saved) if train.epochs * per_epoch > min(saved) else 0
        found.append(Left(tuple(seeds), train.epochs * per_epoch - begun, begun))
    return tuple(found)


@dataclass(frozen=True)
class _Place:
    """Where runs are planned: kind and number of devices, how they are used; and what is measured there."""

    kind: Kind | None
    number: int
    limit: int | None
    apart: bool
    devices: Devices
    batches: TrainBatches
    prices: Prices | None

    @property
    def split(self) -> int:
        """Number of devices that share a run's batches."""
        return 1 if self.apart else self.number


def _placed(made: Prepared, seeds: Sequence[int]) -> _Place:
    config, here, train = made.config, Devices.of(made.config.parallel), made.data.train
    kind = KINDS[config.plan.device] if config.plan.device else None
    number = config.plan.devices or (1 if kind else len(here))
    limit = kind.limit if kind else memory_limit(here.devices[0], number)
    one, alone, prices = Devices(here.mode, here.devices[:1]), made.batches, made.activations.prices
    if kind:
        prices = Prices("gpu", made.base.config, config.model.dtype)
    if alone.devices > 1 or kind:
        alone = plan_batches(train, config.train, seeds, one, prices)
    largest = largest_run(made.setups, alone, config.train.parallel_seeds)
    apart = spread(config, len(made.groups), number, 1, largest, limit)
    shares = not apart and number == len(here) and not kind
    return _Place(kind, number, limit, apart, here if shares else one, made.batches if shares else alone, prices)


def _planned(made: Prepared, left: Mapping[str, tuple[Left, ...]], seeds: Sequence[int], starting: float) -> DryRun:
    place, config = _placed(made, seeds), made.config
    activations = Activations(config, made.data, place.devices, place.prices)
    shared = place.devices.shared(dict(made.base.parameters))
    costs: Costs = Measured(made, place.devices, activations, shared)
    if place.kind:
        costs = Counted(made, place.kind, place.split)
    rows = list[Row]()
    for setup in made.setups:
        mine = left[setup.name]
        with made.display.busy(f"planning {setup.name}"):
            inputs, missing = activations.planned(setup, shared, place.batches)
            cost = costs.cost(setup, inputs, missing, mine) if mine else Cost((), 0.0, 0.0)
        if not place.kind:  # where more devices will share a batch than those that were measured
            cost = replace(cost, groups=tuple(s * len(place.devices) / place.split for s in cost.groups))
        rows.append(_row(made, setup, inputs, mine, cost, place.split if config.parallel.fsdp else 1))
    at_once, groups = place.number // place.split, sum(map(len, left.values()))
    shares = not place.kind and place.devices.platform == "cpu"  # simulated devices share the cores
    crowd = min(at_once, groups) if shares else 1
    jobs = [
        TimedJob(r.strategy, g.seeds, s * crowd) for r in rows for g, s in zip(r.groups, r.cost.groups, strict=True)
    ]
    return DryRun(
        rows=rows,
        kind=config.plan.device or place.devices.platform,
        devices=place.number,
        apart=place.apart,
        slots=schedule(jobs, at_once, {row.strategy: row.cost.compiling + row.cost.caching for row in rows}),
        disk=need(config, made.setups, {row.strategy: row.done + row.runs for row in rows}, min(at_once, groups) or 1),
        limit=place.limit,
        starting=starting,
        adapting=_adapting(made, rows, costs.rate),
        searching=_searching(made, rows),
        config=config,
    )


def _row(made: Prepared, setup: Setup, inputs: Inputs, left: tuple[Left, ...], cost: Cost, split: int) -> Row:
    """A strategy's row: what is left of its runs, and their cost; `split` as for `estimated_memory`."""
    epochs, tokens = made.config.train.epochs, int(made.data.train.tokens.lengths.sum())
    every = epochs * made.batches.steps_per_epoch
    together = max((len(group.seeds) for group in left), default=1)
    return Row(
        strategy=setup.name,
        done=sum(map(len, made.groups[setup.name])) - sum(len(group.seeds) for group in left),
        groups=left,
        tokens=sum(len(group.seeds) * epochs * tokens * group.steps // every for group in left),
        padding=inputs.batches.waste,
        memory=estimated_memory(setup, inputs.by_stage, together, split),
        cost=cost,
    )


def _searching(made: Prepared, rows: Sequence[Row]) -> float:
    """Seconds of the searches for learning rates that are left, each of the budget's number of full runs."""
    search, total = made.config.search, 0.0
    every = made.config.train.epochs * made.batches.steps_per_epoch
    for row in rows if search.trials else ():
        record = trial_record.read(made.folder.path, row.strategy)
        if row.groups and (record is None or record.factor is None):
            one, seconds = row.groups[0], row.cost.groups[0]
            total += search.budget * seconds / len(one.seeds) * every / one.steps
    return total


def _adapting(made: Prepared, rows: Sequence[Row], rate: float | None) -> float:
    """Seconds of language modelling at `rate` FLOP a second; by default that of the strategy that computes most."""
    if not made.config.pretrain.epochs or (made.folder.path / "base").exists():
        return 0.0
    if rate is None:
        amount = Amount.of(made.data.train.tokens.lengths, made.batches.steps_per_epoch)
        flops = {s.name: made.config.train.epochs * training_flops(s.stages[-1], amount) for s in made.setups}
        seconds = {row.strategy: row.cost.groups[0] / len(row.groups[0].seeds) for row in rows if row.groups}
        rate = max((flops[name] / seconds[name] for name in seconds), default=float("inf"))
    return adapting_flops(made) / rate
