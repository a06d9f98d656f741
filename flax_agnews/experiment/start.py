"""Starts an experiment: reads and checks data, model and settings, and claims the folder, before the first run."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from flax_agnews.config import Config, ParallelConfig
from flax_agnews.data.encoded import encode_corpus
from flax_agnews.data.sources import Corpus, load_corpus
from flax_agnews.data.tokens import Tokenizer, check_vocabulary
from flax_agnews.experiment.announcement import announce_idle, announce_plan, announce_start
from flax_agnews.experiment.compared_strategies import built, planned
from flax_agnews.experiment.continuation import Scheme, check_begun
from flax_agnews.experiment.disk_budget import check_room, keeps_final
from flax_agnews.experiment.outputs import Outputs, check_trackers
from flax_agnews.experiment.planning import fits_apart, spread
from flax_agnews.experiment.preparation import choose_tokenizer, keep_tokenizer
from flax_agnews.experiment.prepared import Prepared
from flax_agnews.experiment.progress import silent
from flax_agnews.experiment.ray_cluster import check_nodes, check_settings, connect
from flax_agnews.experiment.results import facts
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.shards import Shard
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.system.display import Display
from flax_agnews.system.files import expanded
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.compiler import Compiler
from flax_agnews.training.jax_setup import begin
from flax_agnews.training.parallel import Devices
from flax_agnews.training.processes import current_team
from flax_agnews.training.shape_prices import Prices
from flax_agnews.training.vote import Vote


def prepare(
    config: Config,
    strategies: Sequence[Entry | Strategy],
    seeds: Sequence[int],
    display: Display | None = None,
    overwrite: bool = False,
    *,
    claim: bool = True,
    guest: bool = False,
) -> Prepared:
    """Starts JAX, reads data and model, checks that all fits together, and then claims the output folder.

    Args:
        config: all settings.
        strategies: the strategies to compare.
        seeds: seeds of each strategy's runs.
        display: where progress is shown; by default plain lines on standard output.
        overwrite: start over in a folder that is in use.
        claim: whether to claim the folder, for runs; without that, nothing is written into it, or locked.
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
            made = _prepare(config, strategies, seeds, folder, shown, overwrite, claim)
            if ray:
                with shown.busy("checking its nodes"):
                    cluster = check_nodes(folder.path.absolute(), config.parallel)
                shown.say("ray", cluster)
            return replace(made, strategies=strategies)
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
    team, every = current_team(), Devices.of(of_driver(config.parallel))
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
