"""Checks the strategies that an experiment is given, and sets them up on its model."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.encoded import Data
from flax_agnews.errors import UserError, listed, shown
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies import REGISTRY, Entry, Strategy, StrategyLike, resolve
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.start_values import start_values
from flax_agnews.training.state import Setup, set_up


def compared(strategies: Sequence[StrategyLike]) -> list[Entry | Strategy]:
    """The strategies that are meant, each by a name of its own.

    Raises:
        UserError: there are none, one isn't a strategy, or two have one name.
    """
    if isinstance(strategies, str) or not isinstance(strategies, Sequence):
        raise UserError(f"Experiment(strategies={shown(repr(strategies))}): must be a list of strategies")
    if not strategies:
        raise UserError("Experiment(strategies=[]): must have a strategy to run")
    found = [resolve(strategy) for strategy in strategies]
    names = [strategy.name for strategy in found]
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UserError(
            f"Experiment(strategies=...): two strategies are called {listed(twice)}; give each its own name"
        )
    return found


def config_of(config: Config, strategies: Sequence[Entry | Strategy]) -> Config:
    """A copy of the settings that says what really runs, for config.yaml: names, settings, and which are custom.

    A registered strategy has the settings that it was called with, or else the configuration's, or its defaults.
    """
    entries, copied = [entry for entry in strategies if isinstance(entry, Entry)], deepcopy(config)
    for entry in entries:
        settings = deepcopy(entry.settings_given) or copied.strategies.get(entry.name, entry.settings())
        if not isinstance(settings, entry.settings):
            told = f"Config(strategies={{'{entry.name}': {shown(repr(settings))}}})"
            raise UserError(f"{told}: must be a {entry.settings.__name__}")
        copied.strategies[entry.name] = settings
    registered = {(entry.name, entry.build) for entry in REGISTRY}
    known = {entry.name for entry in entries if (entry.name, entry.build) in registered}
    names = [strategy.name for strategy in strategies]
    return replace(copied, strategy=",".join(names), custom=sorted(set(names) - known))


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
