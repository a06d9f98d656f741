"""What a run starts from and carries: a strategy set up on a model, and its training state."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax import Array

from flax_agnews.config import ModelConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.models import parameters
from flax_agnews.models.classifier import Classifier
from flax_agnews.models.dropout import Rates
from flax_agnews.models.gpt2 import GPT2
from flax_agnews.models.parameters import Frame, Parameters
from flax_agnews.models.pretrained import Base
from flax_agnews.models.rows import Way, check_attention
from flax_agnews.strategies.base import Strategy
from flax_agnews.strategies.optim import Plan, make_optimizer, paced

T = TypeVar("T")

_HEAD, _ADAPT = 1, 2  # purposes of random keys


@partial(jax.tree_util.register_dataclass, data_fields=["params", "opt_state", "step", "seed"], meta_fields=[])
@dataclass(frozen=True)
class TrainState:
    """All that changes in a run; frozen weights are not in it.

    Attributes:
        params: path -> float32, the trainable leaves.
        opt_state: optax's, of the same leaves.
        step: [] uint32, updates so far.
        seed: [] uint32, the run's.
    """

    params: Any
    opt_state: Any
    step: Any
    seed: Any


@dataclass(frozen=True)
class Span:
    """A stage of a strategy on a model.

    Attributes:
        first: the epoch that it begins with; it ends where the next one begins.
        learning: paths that train in it.
        rates: of dropout, and where, in it.
    """

    first: int
    learning: frozenset[str]
    rates: Rates


@dataclass(frozen=True)
class Setup:
    """A strategy on a model, ready to be compiled: all that is the same for every seed.

    Attributes:
        strategy: the strategy.
        base: the body that every run starts from.
        classes: how many.
        frame: of the adapted classifier.
        trainable: paths that train, in any stage: the leaves of the state.
        learning: those that an update changes: of a stage's own setup only some.
        labels: path -> label.
        optimizer: over the trainable leaves.
        rates: of dropout, and where.
        dtype: of matrix products.
        attention: how tokens attend.
        spans: the stages, where there are any.
        first: path -> array of what starts from given values, in every run.
        factor: by which the strategy's rates are multiplied; None where nobody has chosen one.
        ever: paths that train in any stage of the strategy, also in one that the run doesn't come to.
    """

    strategy: Strategy
    base: Base
    classes: int
    frame: Frame[Classifier]
    trainable: frozenset[str]
    learning: frozenset[str]
    labels: Mapping[str, str | None]
    optimizer: optax.GradientTransformation
    rates: Rates
    dtype: Any
    attention: Way
    spans: tuple[Span, ...] = ()
    first: Mapping[str, np.ndarray] = field(default_factory=dict)
    factor: float | None = None
    ever: frozenset[str] = frozenset()

    def at(self, factor: float, stride: int = 1) -> "Setup":
        """The same at all rates times a factor; of a run in miniature, the schedules go on by `stride` an update."""
        return replace(self, optimizer=paced(self.optimizer, factor, stride), factor=factor)

    @property
    def stages(self) -> tuple["Setup", ...]:
        """The setup of each stage, where `trainable` is what has trained by its end; without stages, this one."""
        learning = [span.learning for span in self.spans]
        trained = itertools.accumulate(learning, lambda before, now: before | now)
        return tuple(
            replace(self, trainable=so_far, learning=span.learning, rates=span.rates, spans=(), ever=frozenset())
            for span, so_far in zip(self.spans, trained, strict=True)
        ) or (self,)

    def stage_of(self, epoch: int) -> int:
        """The number of the stage that an epoch belongs to."""
        return sum(span.first <= epoch for span in self.spans[1:])

    def untrained(self, step: int, steps_per_epoch: int) -> frozenset[str]:
        """Paths that train in stages only which begin after so many updates, or later."""
        begun = [span.learning for span in self.spans if span.first * steps_per_epoch < step]
        return self.trainable.difference(*begun) if self.spans else frozenset()

    @property
    def trainable_parameters(self) -> int:
        """How many numbers train."""
        return parameters.count({p: s for p, s in self.frame.shapes.items() if p in self.trainable})

    @property
    def total_parameters(self) -> int:
        """How many numbers the adapted classifier has."""
        return parameters.count(self.frame.shapes)

    @property
    def fingerprint(self) -> str:
        """Of labels, settings and given first values."""
        own = self.strategy.fingerprint(self.labels)
        return f"{own} from {parameters.content_hash(self.first)}" if self.first else own


def set_up(strategy: Strategy, base: Base, classes: int, plan: Plan, model: ModelConfig, max_length: int) -> Setup:
    """Adapts the model (abstractly), labels its parameters and makes the optimizer.

    Args:
        max_length: most tokens of a text, which with the prompt must fit the model's positions.
    """
    config = base.config
    way: Way = "blocks" if model.attention == "auto" else model.attention
    frame = parameters.abstract(lambda: _adapted(strategy, Classifier(config, classes, jax.random.key(0), way), 0))
    prompt = _hollow(frame).prompt_tokens
    if max_length + prompt > base.config.n_positions:
        raise UserError(
            f"{flag('data.max_length')} {max_length}: with {prompt} prompt tokens above the model's "
            f"{base.config.n_positions} positions; at most {base.config.n_positions - prompt} for strategy "
            f"{strategy.name}"
        )
    labels = {path: strategy.label(path, shape) for path, shape in frame.shapes.items()}
    transforms, around = strategy.transforms(plan), strategy.around(plan)
    ever, optimizer = make_optimizer(strategy.name, labels, transforms, around)
    stages = strategy.reached(transforms, plan.epochs)
    learning = [frozenset(path for path in ever if labels[path] in stage.labels) for stage in stages]
    trainable = frozenset[str]().union(*learning) if stages else ever
    if len(stages) > 1:
        _check_around(strategy.name, around, {path: frame.shapes[path] for path in trainable})
    rates, device = dropout_rates(base, model, trainable), jax.local_devices()[0]
    width = config.n_embd // config.n_head
    check_attention(way, strategy.name, model.dtype, head_width=width, rates=rates, prefix=prompt, device=device)
    return Setup(
        strategy=strategy,
        base=base,
        classes=classes,
        frame=frame,
        trainable=trainable,
        learning=trainable,
        labels=labels,
        optimizer=optimizer,
        rates=rates,
        dtype=jnp.dtype(model.dtype),
        attention=way,
        spans=tuple(
            Span(stage.epoch, paths, dropout_rates(base, model, paths))
            for stage, paths in zip(stages, learning, strict=True)
        ),
        ever=ever,
    )


def _check_around(name: str, around: optax.GradientTransformation, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Stages have the gradients of some leaves only, which a state that mirrors all of them can't take."""
    leaves = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
    if any(leaf.ndim for leaf in jax.tree.leaves(jax.eval_shape(around.init, leaves))):
        raise UserError(
            f"strategy {name}: with stages, the transformation `around` must keep no state of each parameter; "
            "give it to the labels' transformations"
        )


def dropout_rates(base: Base, model: ModelConfig, trainable: frozenset[str]) -> Rates:
    """The body's rates, or the one that is set; frozen depths are quiet unless `model.dropout_frozen`."""
    config, layers = base.config, base.config.n_layer

    def trains(*prefixes: str) -> bool:
        return model.dropout_frozen or any(path.startswith(prefixes) for path in trainable)

    noisy = (
        trains("transformer/wte/", "transformer/wpe/"),
        *(trains(f"transformer/h/{layer}/") for layer in range(layers)),
    )
    if model.dropout is not None:
        return Rates(model.dropout, model.dropout, model.dropout, noisy)
    return Rates(config.embd_pdrop, config.attn_pdrop, config.resid_pdrop, noisy)


def create_state(setup: Setup, shared: Mapping[str, Array], seed: int) -> tuple[TrainState, Parameters]:
    """The first state of a run, and the frozen weights that it reads.

    Args:
        shared: the body's weights on the device(s): frozen leaves are these very arrays, trainable ones are copies.
        seed: of the run; decides head and adapter.

    Returns:
        (state, frozen): may be donated, must never be.
    """
    all_parameters = _first_parameters(setup, shared, seed)
    trainable = {p: jnp.array(v, copy=True) for p, v in all_parameters.items() if p in setup.trainable}
    frozen = {p: v for p, v in all_parameters.items() if p not in setup.trainable}
    state = TrainState(trainable, setup.optimizer.init(trainable), np.uint32(0), np.uint32(seed))
    return state, frozen


def frozen_depth(setup: Setup, shared: Mapping[str, Array] | None = None) -> int:
    """How many leading layers make the same of a text in every step of every run, so that it may be computed once.

    These are layers in which, as in the embeddings, nothing trains, draws dropout, was added or was changed; none where
    something stands before the text.

    Args:
        setup: the strategy on the model.
        shared: the body's weights, as `create_state` takes them; without them, changed values go unseen.
    """
    model, base, rates = _hollow(setup.frame), setup.base, setup.rates
    known = (*base.parameters, "transformer/h/", "score/")
    if type(model) is not Classifier or type(model.transformer) is not GPT2:
        return 0
    if not all(path.startswith(known) for path in setup.frame.shapes):
        return 0
    ours = model.transformer
    plain = _hollow(parameters.abstract(lambda: Classifier(base.config, setup.classes, jax.random.key(0)))).transformer
    moved = setup.trainable | setup.ever | (unshared(setup, shared) if shared else frozenset())

    def fixed(depth: int, path: str, part: nnx.Module, before: nnx.Module) -> bool:
        stays = not any(p.startswith(f"transformer/{path}/") for p in moved)
        noise = rates.noisy[depth] and any((rates.attn, rates.resid) if depth else (rates.embd,))
        return stays and not noise and nnx.graphdef(part) == nnx.graphdef(before)

    embedded = fixed(0, "wte", ours.wte, plain.wte) and fixed(0, "wpe", ours.wpe, plain.wpe)
    if not embedded or len(ours.h) != len(plain.h):
        return 0
    layers = (fixed(i + 1, f"h/{i}", *pair) for i, pair in enumerate(zip(ours.h, plain.h, strict=True)))
    return sum(itertools.takewhile(bool, layers))


def unshared(setup: Setup, shared: Mapping[str, Array]) -> frozenset[str]:
    """Paths of what a run begins with that isn't the body's own arrays: the head, what the strategy adds or changes.

    Args:
        setup: the strategy on the model.
        shared: the body's weights, as `create_state` takes them.
    """
    first = _first_parameters(setup, shared, seed=0)
    return frozenset(path for path, value in first.items() if value is not shared.get(path))


def _hollow(frame: Frame[Classifier]) -> Classifier:
    """The module of a frame, with shapes for parameters."""
    shapes: dict[str, Any] = {p: jax.ShapeDtypeStruct(shape, jnp.float32) for p, shape in frame.shapes.items()}
    return frame.merge(shapes)


def stack(trees: Sequence[T]) -> T:
    """Pytrees of several runs -> one, with a leading axis [seeds]; that of one run stays as it is."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _first_parameters(setup: Setup, shared: Mapping[str, Array], seed: int) -> Parameters:
    """What a run begins with; the body's leaves are the very arrays of `shared`, unless the strategy changed them."""
    head = jax.random.fold_in(jax.random.key(seed), _HEAD)
    model = setup.base.classifier(setup.classes, head, shared)
    drawn = parameters.split(_adapted(setup.strategy, model, seed))[1]
    return {**drawn, **{path: jnp.asarray(value) for path, value in setup.first.items()}}


def _adapted(strategy: Strategy, model: Classifier, seed: int) -> Classifier:
    return strategy.adapt(model, jax.random.fold_in(jax.random.key(seed), _ADAPT))
