"""Makes a strategy's optimizer: one optax transformation over the trained parameters."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_agnews.errors import UserError, close_names, listed, nearest
from flax_agnews.strategies.plan import FROZEN, Plan, Transform

__all__ = ["FROZEN", "Plan", "Transform", "make_optimizer", "paced", "trainable_labels"]


def trainable_labels(
    name: str, labels: Mapping[str, str | None], transforms: Mapping[str, Transform]
) -> dict[str, str]:
    """Path -> label of every parameter whose label has a transformation.

    Args:
        name: name of the strategy, for errors.
        labels: path -> label of every parameter of the model.
        transforms: label -> optax transformation, or `FROZEN`. The label `frozen` needs no entry.

    Raises:
        UserError: a parameter has no label, a label has no valid transformation, a transformation has no parameter, or
            nothing trains; the message has the names.
    """
    if unlabelled := [path for path, label in labels.items() if label is None]:
        raise UserError(f"strategy {name}: no label for {listed(unlabelled)}")
    for label, what in transforms.items():
        if what != FROZEN and not isinstance(what, optax.GradientTransformation):
            raise UserError(f'strategy {name}: {label}: {what!r} is neither "frozen" nor an optax transformation')
    actions: dict[str, Transform] = {FROZEN: FROZEN, **transforms}
    if unknown := sorted({str(label) for label in labels.values()} - set(actions)):
        examples = [path for path, label in labels.items() if label == unknown[0]]
        raise UserError(
            f"strategy {name}: label {unknown[0]} (of {listed(examples, 2)}) has no transformation."
            + nearest(unknown[0], actions)
        )
    if unused := [label for label in transforms if label not in labels.values()]:
        raise UserError(f"strategy {name}: {unused[0]} matches no parameter.{_paths_like(unused[0], labels)}")
    trainable = {path: str(label) for path, label in labels.items() if actions[str(label)] != FROZEN}
    if not trainable:
        raise UserError(f"strategy {name}: every parameter is frozen; at least one must train, such as score/kernel")
    return trainable


def make_optimizer(
    name: str,
    labels: Mapping[str, str | None],
    transforms: Mapping[str, Transform],
    around: optax.GradientTransformation | None = None,
) -> tuple[frozenset[str], optax.GradientTransformation]:
    """Combines the labels' transformations into one over all trained parameters.

    Args:
        name, labels, transforms: as in `trainable_labels`, which checks them.
        around: applied to all trained gradients, before the transformations of the labels.

    Returns:
        The trainable paths, and the transformation over a dictionary of these leaves by path. It also accepts the
        gradients of only some labels: leaves of the others get no update, and their states stay as they are.
    """
    trainable = trainable_labels(name, labels, transforms)
    inner = _partitioned({label: transforms[label] for label in dict.fromkeys(trainable.values())}, trainable)
    return frozenset(trainable), inner if around is None else optax.chain(around, inner)


def paced(transformation: optax.GradientTransformation, factor: float, stride: int) -> optax.GradientTransformation:
    """Multiplies a transformation's learning rates, and makes its schedules advance several steps per update.

    Both numbers are in its state, so that one compiled update serves all values. Multiplying the updates is enough:
    they are proportional to the learning rate, decoupled weight decay included.

    Args:
        transformation: the transformation to change.
        factor: factor of the learning rates.
        stride: steps of the schedules per update.
    """
    inner = optax.with_extra_args_support(transformation)

    def init(params: Any) -> tuple[Any, jax.Array, jax.Array]:
        return transformation.init(params), jnp.float32(factor), jnp.int32(stride)

    def update(gradients: Any, state: Any, params: Any = None, **others: Any) -> tuple[Any, Any]:
        before, by, steps = state
        updates, after = inner.update(gradients, before, params, **others)

        def strode(then: Any, now: Any) -> Any:
            return now._replace(count=then.count + steps * (now.count - then.count)) if _is_schedule(now) else now

        after = jax.tree.map(strode, before, after, is_leaf=_is_schedule)
        return jax.tree.map(lambda change: change * by, updates), (after, by, steps)

    return optax.GradientTransformationExtraArgs(init, update)


def _is_schedule(state: Any) -> bool:
    return isinstance(state, optax.ScaleByScheduleState)


def _partitioned(transforms: Mapping[str, Any], labels: Mapping[str, str]) -> optax.GradientTransformation:
    """Applies each label's transformation to its leaves; unlike `optax.partition`, skips labels without gradients."""

    def own(label: str, tree: Mapping[str, Any]) -> dict[str, Any]:
        return {path: leaf for path, leaf in tree.items() if labels[path] == label}

    def init(params: Any) -> dict[str, Any]:
        return {label: transform.init(own(label, params)) for label, transform in transforms.items()}

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        updates, states = {}, dict(state)
        for label, transform in transforms.items():
            if mine := own(label, gradients):
                change, states[label] = transform.update(mine, state[label], own(label, params or {}) or None)
                updates.update(change)
        return updates, states

    return optax.GradientTransformation(init, update)


def _paths_like(label: str, paths: Mapping[str, Any]) -> str:
    """A hint for a label that no parameter has: parameters with similar names, or else some of all."""
    if close_names(label, paths):
        return nearest(label, paths)
    return f" Parameters are called {listed(sorted(paths), 3)}"
