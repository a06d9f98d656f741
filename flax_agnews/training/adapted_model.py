"""A classifier adapted by a strategy: its structure, which parameters train, and their initial values in a run."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from flax_agnews.config import ModelConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.models import parameters
from flax_agnews.models.backend import Backend
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.compute import Compute, compute_on
from flax_agnews.models.parameters import Frame, Parameters, hollow
from flax_agnews.models.pretrained import Base, plain_frame
from flax_agnews.strategies.base import Strategy, unchanged
from flax_agnews.strategies.optim import Plan, Transform, trainable_labels

_HEAD, _ADAPT = 1, 2  # purposes of random keys


@dataclass(frozen=True)
class AdaptedModel:
    """A classifier adapted by a strategy, without the values of its parameters; the same for every seed.

    Attributes:
        strategy: the strategy that adapted it.
        base: the pretrained body that every run starts from.
        classes: number of classes.
        frame: the adapted classifier's module, with the shapes of its parameters.
        labels: path of a parameter -> the strategy's label for it.
        compute: types of matrix products, and implementation of attention.
        start_values: path -> array of parameters that start from given values (`model.start`) instead of random ones.
    """

    strategy: Strategy
    base: Base
    classes: int
    frame: Frame[ClassifierModule]
    labels: Mapping[str, str | None]
    compute: Compute
    start_values: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Path -> shape of every parameter, sorted by path."""
        return self.frame.shapes

    @property
    def total_parameters(self) -> int:
        """Number of scalars in all parameters, the strategy's included."""
        return parameters.count_numbers(self.shapes)

    @property
    def fingerprint(self) -> str:
        """Hash of labels, settings and start values; a run is only resumed if it is unchanged."""
        own = self.strategy.fingerprint(self.labels)
        return f"{own} from {parameters.content_hash(self.start_values)}" if self.start_values else own

    @property
    def function(self) -> Hashable:
        """What the adapted model computes from its parameters: equal for strategies that only train differently."""
        return self.frame.graph, tuple(self.shapes.items()), self.compute


def adapt_model(
    strategy: Strategy, base: Base, classes: int, settings: ModelConfig, max_length: int = 1
) -> AdaptedModel:
    """Adapts a classifier on a body abstractly, and labels its parameters; nothing is computed.

    Args:
        strategy: the strategy that adapts it.
        base: the body; its weights aren't read.
        classes: number of classes.
        settings: settings of the model, of which `dtype`, `precision` and `attention` are used.
        max_length: largest number of tokens of a text, which together with the prompt must fit the body's positions.
    """
    config = base.config
    frame = plain_frame(config, classes)
    if strategy.adapt is not unchanged:
        frame = parameters.abstract(lambda plain: _adapted(strategy, plain, 0), hollow(frame))
    prompt = hollow(frame).prompt_tokens
    if max_length + prompt > config.n_positions:
        raise UserError(
            f"{flag('data.max_length')} {max_length}: with {prompt} prompt tokens above the model's "
            f"{config.n_positions} positions; at most {config.n_positions - prompt} for strategy {strategy.name}"
        )
    labels = {path: strategy.label(path, shape) for path, shape in frame.shapes.items()}
    backend = Backend.of(jax.local_devices()[0])
    compute = compute_on(backend, config, settings.dtype, settings.attention, settings.precision)
    return AdaptedModel(strategy, base, classes, frame, labels, compute)


@dataclass(frozen=True)
class Trained:
    """The parameters of an adapted model that train under a plan, stage by stage.

    Attributes:
        ever: paths that train in any stage of the strategy, also in one that the plan doesn't reach.
        stages: (first epoch, trained paths) of each stage that the plan reaches; empty where all of `ever` trains
            throughout.
    """

    ever: frozenset[str]
    stages: tuple[tuple[int, frozenset[str]], ...] = ()

    @property
    def paths(self) -> frozenset[str]:
        """Paths that train at any time in the plan."""
        return frozenset[str]().union(*(paths for _, paths in self.stages)) if self.stages else self.ever


def trained_parameters(
    model: AdaptedModel,
    plan: Plan,
    transforms: Mapping[str, Transform] | None = None,
    around: optax.GradientTransformation | None = None,
) -> Trained:
    """Finds which parameters train under a plan, and from which epoch on.

    Args:
        model: the adapted model.
        plan: number of updates and settings of training.
        transforms, around: the strategy's under this plan, where the caller has made them already.

    Raises:
        UserError: the strategy's labels, transformations and stages don't fit each other.
    """
    strategy, labels = model.strategy, model.labels
    transforms = strategy.transforms(plan) if transforms is None else transforms
    ever = frozenset(trainable_labels(strategy.name, labels, transforms))
    stages = tuple(
        (stage.epoch, frozenset(path for path in ever if labels[path] in stage.labels))
        for stage in strategy.reached(transforms, plan.epochs)
    )
    trained = Trained(ever, stages)
    if len(stages) > 1:
        around = strategy.around(plan) if around is None else around
        _check_around(strategy.name, around, {path: model.shapes[path] for path in trained.paths})
    return trained


def _check_around(name: str, around: optax.GradientTransformation, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses an `around` with a state per parameter, since a stage only has the gradients of some parameters."""
    leaves = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
    if any(leaf.ndim for leaf in jax.tree.leaves(jax.eval_shape(around.init, leaves))):
        raise UserError(
            f"strategy {name}: with stages, the transformation `around` must keep no state of each parameter; "
            "give it to the labels' transformations"
        )


def first_parameters(model: AdaptedModel, shared: Mapping[str, Array], seed: int) -> Parameters:
    """All parameters of a run before its first update.

    Args:
        model: the adapted model.
        shared: the body's weights on the device; the result has these same arrays, except where the strategy changes
            them.
        seed: seed of the run, for head and adapter.
    """
    head = jax.random.fold_in(jax.random.key(seed), _HEAD)
    classifier = model.base.classifier(model.classes, head, shared)
    drawn = parameters.split(_adapted(model.strategy, classifier, seed))[1]
    return {**drawn, **{path: jnp.asarray(value) for path, value in model.start_values.items()}}


def unshared(model: AdaptedModel, shared: Mapping[str, Array]) -> frozenset[str]:
    """Paths of initial parameters that aren't arrays of the body: the head, and what the strategy adds or changes."""
    found: set[str] = set()

    def first(body: Mapping[str, Any]) -> None:
        made = first_parameters(model, body, seed=0)
        found.update(path for path, value in made.items() if value is not body.get(path))

    jax.eval_shape(first, dict(shared))  # only traced: no value is drawn
    return frozenset(found)


def in_compute_type(model: AdaptedModel, weights: Parameters) -> Parameters:
    """Casts the body's kernels to the compute type, once instead of in every batch; other weights stay as they are."""
    if model.compute.dtype == jnp.float32:
        return weights
    kernels = [path for path in model.base.parameters if path.endswith("/kernel") and path in weights]
    return {**weights, **{path: weights[path].astype(model.compute.dtype) for path in kernels}}


def _adapted(strategy: Strategy, model: ClassifierModule, seed: int) -> ClassifierModule:
    return strategy.adapt(model, jax.random.fold_in(jax.random.key(seed), _ADAPT))
