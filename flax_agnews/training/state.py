"""The setup of training (adapted model and optimizer), and the state that training changes."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flax_agnews.config import ModelConfig
from flax_agnews.models import parameters
from flax_agnews.models.dropout import Rates
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import Base, body_shapes
from flax_agnews.strategies.base import Strategy
from flax_agnews.strategies.optim import Plan, make_optimizer, paced
from flax_agnews.training.adapted_model import AdaptedModel, adapt_model, first_parameters, trained_parameters

T = TypeVar("T")


@partial(jax.tree_util.register_dataclass, data_fields=["params", "opt_state", "step", "seed"], meta_fields=[])
@dataclass(frozen=True)
class TrainState:
    """Everything that an update changes in a run; without frozen weights.

    Attributes:
        params: path -> float32 array of the trainable leaves.
        opt_state: the optimizer's state for these leaves.
        step: [] uint32, number of updates so far.
        seed: [] uint32, seed of the run.
    """

    params: Any
    opt_state: Any
    step: Any
    seed: Any


@dataclass(frozen=True)
class Span:
    """A stage of training: a range of epochs in which only some parameters train.

    Attributes:
        first: its first epoch, from 0; it ends where the next stage begins.
        learning: paths of the parameters that train in it.
        rates: dropout rates in it.
    """

    first: int
    learning: frozenset[str]
    rates: Rates


@dataclass(frozen=True)
class Setup:
    """An adapted model and how it trains: everything that is compiled into steps, the same for every seed.

    Attributes:
        model: the adapted model.
        trainable: paths that train in any stage of the run: the leaves of the state.
        learning: paths that an update changes; in the setup of a single stage, some of `trainable`.
        optimizer: optax transformation over the trainable leaves.
        rates: dropout rates, and at which depths they hold.
        spans: the stages; empty for a strategy without stages.
        factor: factor of the strategy's learning rates, chosen by a search; None without a search.
        ever: paths that train in any stage of the strategy, also in one that the run doesn't reach.
    """

    model: AdaptedModel
    trainable: frozenset[str]
    learning: frozenset[str]
    optimizer: optax.GradientTransformation
    rates: Rates
    spans: tuple[Span, ...] = ()
    factor: float | None = None
    ever: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        """The strategy's name."""
        return self.model.strategy.name

    def at(self, factor: float, stride: int = 1) -> "Setup":
        """A copy with all learning rates times a factor, and schedules that advance `stride` steps per update."""
        return replace(self, optimizer=paced(self.optimizer, factor, stride), factor=factor)

    def on(self, base: Base) -> "Setup":
        """A copy with the weights of another body of the same configuration."""
        return replace(self, model=replace(self.model, base=base))

    @property
    def stages(self) -> tuple["Setup", ...]:
        """The setup of each stage, whose `trainable` has the paths trained by its end; without stages, this one."""
        learning = [span.learning for span in self.spans]
        trained = itertools.accumulate(learning, lambda before, now: before | now)
        return tuple(
            replace(self, trainable=so_far, learning=span.learning, rates=span.rates, spans=(), ever=frozenset())
            for span, so_far in zip(self.spans, trained, strict=True)
        ) or (self,)

    def stage_of(self, epoch: int) -> int:
        """Number of the stage to which an epoch belongs; both count from 0."""
        return sum(span.first <= epoch for span in self.spans[1:])

    def untrained(self, step: int, steps_per_epoch: int) -> frozenset[str]:
        """Paths that only train in stages that have made no update after `step` updates."""
        begun = [span.learning for span in self.spans if span.first * steps_per_epoch < step]
        return self.trainable.difference(*begun) if self.spans else frozenset()

    @property
    def trainable_shapes(self) -> dict[str, tuple[int, ...]]:
        """Path -> shape of every trainable leaf, sorted by path."""
        return {path: shape for path, shape in self.model.shapes.items() if path in self.trainable}

    @property
    def trainable_parameters(self) -> int:
        """Number of trained scalars."""
        return parameters.count_numbers(self.trainable_shapes)

    @property
    def optimizer_bytes(self) -> int:
        """Size of the optimizer's state; nothing is allocated."""
        leaves = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in self.trainable_shapes.items()}
        state = jax.tree.leaves(jax.eval_shape(self.optimizer.init, leaves))
        return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in state)

    @property
    def kept_bytes(self) -> int:
        """Size in float32 of what a task needs beside the body: the parameters that train, and those of no body."""
        body = body_shapes(self.model.base.config)
        kept = {path: shape for path, shape in self.model.shapes.items() if path in self.trainable or path not in body}
        return 4 * parameters.count_numbers(kept)


def set_up(strategy: Strategy, base: Base, classes: int, plan: Plan, settings: ModelConfig, max_length: int) -> Setup:
    """Adapts a classifier (without computing), labels its parameters and makes the optimizer.

    Args:
        strategy: the strategy.
        base: the body.
        classes: number of classes.
        plan: number of updates and settings of training, on which learning rates depend.
        settings: settings of the model: compute type, attention and dropout.
        max_length: largest number of tokens of a text, which together with the prompt must fit the body's positions.

    Raises:
        UserError: the strategy doesn't fit the body, the plan or the settings.
    """
    model = adapt_model(strategy, base, classes, settings, max_length)
    transforms, around = strategy.transforms(plan), strategy.around(plan)
    trained = trained_parameters(model, plan, transforms, around)
    _, optimizer = make_optimizer(strategy.name, model.labels, transforms, around)
    rates = dropout_rates(base, settings, trained.paths)
    return Setup(
        model=model,
        trainable=trained.paths,
        learning=trained.paths,
        optimizer=optimizer,
        rates=rates,
        spans=tuple(Span(first, paths, dropout_rates(base, settings, paths)) for first, paths in trained.stages),
        ever=trained.ever,
    )


def dropout_rates(base: Base, settings: ModelConfig, trainable: frozenset[str]) -> Rates:
    """The body's dropout rates, or `dropout`; only in layers where something trains, unless `dropout_frozen`.

    Args:
        base: the body, whose configuration has the rates.
        settings: settings of the model, of which `dropout` and `dropout_frozen` are used.
        trainable: paths of the trained parameters.
    """
    config, layers = base.config, base.config.n_layer

    def trains(*prefixes: str) -> bool:
        return settings.dropout_frozen or any(path.startswith(prefixes) for path in trainable)

    noisy = (
        trains("transformer/wte/", "transformer/wpe/"),
        *(trains(f"transformer/h/{layer}/") for layer in range(layers)),
    )
    if settings.dropout is not None:
        return Rates(settings.dropout, settings.dropout, settings.dropout, noisy)
    return Rates(config.embd_pdrop, config.attn_pdrop, config.resid_pdrop, noisy)


def create_state(setup: Setup, shared: Mapping[str, Array], seed: int) -> tuple[TrainState, Parameters]:
    """Makes the initial state of a run, and its frozen weights.

    Args:
        setup: the adapted model and how it trains.
        shared: the body's weights on the devices; frozen leaves are these same arrays, trainable ones are copies.
        seed: seed of the run, for head and adapter.

    Returns:
        (state, frozen): `state` may be donated; `frozen` is shared by all runs and must not be.
    """
    all_parameters = first_parameters(setup.model, shared, seed)
    trainable = {p: jnp.array(v, copy=True) for p, v in all_parameters.items() if p in setup.trainable}
    frozen = {p: v for p, v in all_parameters.items() if p not in setup.trainable}
    state = TrainState(trainable, setup.optimizer.init(trainable), np.uint32(0), np.uint32(seed))
    return state, frozen


def stack(trees: Sequence[T]) -> T:
    """Stacks pytrees of several runs along a leading axis [seeds]; that of a single run is returned unchanged."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
