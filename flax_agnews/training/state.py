"""An adapted model with its optimizer, ready to train, and the state that training changes."""

import itertools
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
from flax_agnews.models.pretrained import Base
from flax_agnews.strategies.base import Strategy
from flax_agnews.strategies.optim import Plan, make_optimizer, paced
from flax_agnews.training.adapted_model import AdaptedModel, adapt_model, first_parameters, trained_parameters

T = TypeVar("T")


@partial(jax.tree_util.register_dataclass, data_fields=["params", "opt_state", "step", "seed"], meta_fields=[])
@dataclass(frozen=True)
class TrainState:
    """Everything that an update changes in a run; frozen weights are not in it.

    Attributes:
        params: path -> float32, the trainable leaves.
        opt_state: the optimizer's state of the same leaves.
        step: [] uint32, number of updates so far.
        seed: [] uint32, the run's.
    """

    params: Any
    opt_state: Any
    step: Any
    seed: Any


@dataclass(frozen=True)
class Span:
    """A stage of training: some of the epochs, in which some of the parameters train.

    Attributes:
        first: the epoch that it begins with; it ends where the next one begins.
        learning: paths of the parameters that train in it.
        rates: dropout rates in it.
    """

    first: int
    learning: frozenset[str]
    rates: Rates


@dataclass(frozen=True)
class Setup:
    """An adapted model and how it trains: all that is the same for every seed, ready to be compiled.

    Attributes:
        model: the adapted model.
        trainable: paths that train in any stage: the leaves of the state.
        learning: paths that an update changes; of a single stage's setup, some of `trainable`.
        optimizer: over the trainable leaves.
        rates: dropout rates, and at which depths they hold.
        spans: the stages, where there are any.
        factor: by which the strategy's learning rates are multiplied; None where no search has chosen one.
        ever: paths that train in any stage of the strategy, also in one that the run doesn't come to.
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
        """The same with all learning rates times a factor, and schedules that go on by `stride` steps an update."""
        return replace(self, optimizer=paced(self.optimizer, factor, stride), factor=factor)

    def on(self, base: Base) -> "Setup":
        """The same with another body's weights, of the same configuration."""
        return replace(self, model=replace(self.model, base=base))

    @property
    def stages(self) -> tuple["Setup", ...]:
        """The setup of each stage, whose `trainable` are the paths that have trained by its end; or this one alone."""
        learning = [span.learning for span in self.spans]
        trained = itertools.accumulate(learning, lambda before, now: before | now)
        return tuple(
            replace(self, trainable=so_far, learning=span.learning, rates=span.rates, spans=(), ever=frozenset())
            for span, so_far in zip(self.spans, trained, strict=True)
        ) or (self,)

    def stage_of(self, epoch: int) -> int:
        """The number of the stage that an epoch belongs to; both count from 0."""
        return sum(span.first <= epoch for span in self.spans[1:])

    def untrained(self, step: int, steps_per_epoch: int) -> frozenset[str]:
        """Paths that train only in stages which begin after `step` updates, or later."""
        begun = [span.learning for span in self.spans if span.first * steps_per_epoch < step]
        return self.trainable.difference(*begun) if self.spans else frozenset()

    @property
    def trainable_shapes(self) -> dict[str, tuple[int, ...]]:
        """Path -> shape of every trainable leaf, sorted by path."""
        return {path: shape for path, shape in self.model.shapes.items() if path in self.trainable}

    @property
    def trainable_parameters(self) -> int:
        """Number of scalars that train."""
        return parameters.count_numbers(self.trainable_shapes)


def set_up(strategy: Strategy, base: Base, classes: int, plan: Plan, settings: ModelConfig, max_length: int) -> Setup:
    """Adapts a classifier (abstractly), labels its parameters and makes the optimizer.

    Args:
        strategy: what is added to the classifier, and what trains.
        base: the body.
        classes: number of classes.
        plan: number of updates and the settings of training, which learning rates depend on.
        settings: compute type, attention and dropout.
        max_length: most tokens of a text, which must fit the body's positions together with the prompt.

    Raises:
        UserError: the strategy doesn't fit the body, the plan or the settings.
    """
    model = adapt_model(strategy, base, classes, settings, max_length)
    trained = trained_parameters(model, plan)
    _, optimizer = make_optimizer(strategy.name, model.labels, strategy.transforms(plan), strategy.around(plan))
    rates = dropout_rates(base, settings, trained.paths)
    model.check_attention(rates)
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
    """The body's dropout rates, or the one that is set; only at depths where something trains, unless `dropout_frozen`.

    Args:
        base: the body, whose configuration has the rates.
        settings: `dropout` and `dropout_frozen`.
        trainable: paths that train.
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
    """The first state of a run, and the frozen weights that it reads.

    Args:
        setup: the adapted model and how it trains.
        shared: the body's weights on the device(s): frozen leaves are these very arrays, trainable ones are copies.
        seed: of the run; decides head and adapter.

    Returns:
        (state, frozen): `state` may be donated; `frozen` is shared by all runs and must not be.
    """
    all_parameters = first_parameters(setup.model, shared, seed)
    trainable = {p: jnp.array(v, copy=True) for p, v in all_parameters.items() if p in setup.trainable}
    frozen = {p: v for p, v in all_parameters.items() if p not in setup.trainable}
    state = TrainState(trainable, setup.optimizer.init(trainable), np.uint32(0), np.uint32(seed))
    return state, frozen


def stack(trees: Sequence[T]) -> T:
    """Pytrees of several runs -> one, with a leading axis [seeds]; that of one run stays as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
