"""Checks the strategies of an experiment, and sets them up on its model."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from flax_agnews.config import Config
from flax_agnews.data.encoded import Data
from flax_agnews.errors import UserError, listed, shown
from flax_agnews.models.pretrained import Base
from flax_agnews.runs.shards import sharded
from flax_agnews.strategies import REGISTRY, Entry, Strategy, StrategyLike, resolve
from flax_agnews.strategies.optim import Plan
from flax_agnews.training.start_values import start_values
from flax_agnews.training.state import Setup, set_up


def compared(strategies: Sequence[StrategyLike]) -> list[Entry | Strategy]:
    """Resolves and checks a list of strategies.

    Raises:
        UserError: the list is empty, an item isn't a strategy, or two strategies have the same name.
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
    """Copies the settings for config.yaml, with the strategies' names and settings, which are custom, and the shard.

    A registered strategy's settings are those of its entry (`lora(rank=4)`), else the configuration's, else defaults.
    """
    entries, copied = [entry for entry in strategies if isinstance(entry, Entry)], deepcopy(config)
    for entry in entries:
        settings = deepcopy(entry.settings_given) or copied.strategies.get(entry.name, entry.settings())
        if not isinstance(settings, entry.settings):
            setting = f"Config(strategies={{'{entry.name}': {shown(repr(settings))}}})"
            raise UserError(f"{setting}: must be a {entry.settings.__name__}")
        copied.strategies[entry.name] = settings
    registered = {(entry.name, entry.build) for entry in REGISTRY}
    known = {entry.name for entry in entries if (entry.name, entry.build) in registered}
    names = [strategy.name for strategy in strategies]
    return sharded(replace(copied, strategy=",".join(names), custom=sorted(set(names) - known)), names)


def built(strategy: Entry | Strategy, base: Base, settings: Mapping[str, Any]) -> Strategy:
    """Builds a registered strategy for a body, with its section of `settings`; a `Strategy` is returned unchanged."""
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
