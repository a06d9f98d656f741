"""What an experiment compares: the strategies that it is given, their names and settings, set up on a model."""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace

from flax_agnews.config import Config
from flax_agnews.data.encoded import Data
from flax_agnews.errors import UserError, listed, shown
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.start_values import started
from flax_agnews.training.state import Setup, set_up


def names_of(strategies: Sequence[Entry | Strategy]) -> list[str]:
    """Names of the strategies; a `UserError` where there are none, one isn't a strategy, or two have one name."""
    if isinstance(strategies, str | Entry | Strategy) or not isinstance(strategies, Sequence):
        raise UserError(f"Experiment(strategies={shown(repr(strategies))}): must be a list of strategies")
    for strategy in strategies:
        if not isinstance(strategy, Entry | Strategy):
            hint = f'; a registered one is REGISTRY["{strategy}"]' if isinstance(strategy, str) else ""
            raise UserError(f"Experiment(strategies=...): {shown(repr(strategy))} is no Strategy and no Entry{hint}")
    names = [strategy.name for strategy in strategies]
    if not names:
        raise UserError("Experiment(strategies=[]): must have a strategy to run")
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(
            f"Experiment(strategies=...): two strategies are called {listed(twice)}; give each its own name"
        )
    return names


def config_of(config: Config, strategies: Sequence[Entry | Strategy]) -> Config:
    """The configuration of what really runs, for its config.yaml: a copy, since the caller's is the caller's."""
    entries = [entry for entry in strategies if isinstance(entry, Entry)]
    settings = {**{entry.name: entry.settings() for entry in entries}, **config.strategies}
    for entry in entries:
        if not isinstance(settings[entry.name], entry.settings):
            kind = entry.settings.__name__
            told = f"Config(strategies={{'{entry.name}': {shown(repr(settings[entry.name]))}}})"
            raise UserError(f"{told}: must be a {kind}")
    return replace(
        deepcopy(config),  # what the caller changes later doesn't change the experiment
        strategy=",".join(strategy.name for strategy in strategies),
        strategies=settings,
        custom=sorted(strategy.name for strategy in strategies if isinstance(strategy, Strategy)),
    )


def built(strategy: Entry | Strategy, base: Base, config: Config) -> Strategy:
    """A strategy for a body: an entry with its section of the settings."""
    if isinstance(strategy, Strategy):
        return strategy
    return strategy.build(config.strategies[strategy.name], base.config)


def planned(
    strategy: Strategy, base: Base, data: Data, config: Config, steps_per_epoch: int, epochs: int | None = None
) -> Setup:
    """A strategy on a model, for a plan of `epochs`, or of `train.epochs`; with first values where there are any."""
    train = config.train if epochs is None else replace(config.train, epochs=epochs)
    plan = Plan(steps_per_epoch * train.epochs, steps_per_epoch, train.batch_size, base.config.n_layer, train)
    longest = max(int(s.tokens.lengths.max()) for s in (data.train, data.validation, data.test))
    most = config.data.max_length if data.truncated else longest
    return started(set_up(strategy, base, len(data.classes), plan, config.model, most), config, data.classes)
