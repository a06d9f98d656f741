"""The strategies that an experiment compares: their names and settings are checked, and they are set up on a body."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.encoded import Data
from flax_agnews.errors import UserError, listed, shown
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.start_values import start_values
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


def built(strategy: Entry | Strategy, base: Base, settings: Mapping[str, Any]) -> Strategy:
    """A strategy for a body; a registered one is built with its section of the strategies' settings."""
    if isinstance(strategy, Strategy):
        return strategy
    return strategy.build(settings[strategy.name], base.config)


def planned(
    strategy: Strategy, base: Base, data: Data, config: Config, steps_per_epoch: int, epochs: int | None = None
) -> Setup:
    """Sets up a strategy on a body for `epochs` epochs (by default `train.epochs`), with its start values."""
    train = config.train if epochs is None else replace(config.train, epochs=epochs)
    plan = Plan(steps_per_epoch * train.epochs, steps_per_epoch, train.batch_size, base.config.n_layer, train)
    longest = max(int(s.tokens.lengths.max()) for s in (data.train, data.validation, data.test))
    most = config.data.max_length if data.truncated else longest
    setup = set_up(strategy, base, len(data.classes), plan, config.model, most)
    if (name := config.model.start) is None:
        return setup
    adapts = config.pretrain.epochs > 0
    values = start_values(setup.model, setup.trainable_shapes, name, data.classes, changed_body=adapts)
    return replace(setup, model=replace(setup.model, start_values=values))
