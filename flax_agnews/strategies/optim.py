"""Makes a strategy's optimizer: one optax transformation over the trained parameters, and learning-rate schedules."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import optax

from flax_agnews.config import TrainConfig
from flax_agnews.errors import UserError, close_names, listed, nearest

FROZEN: Literal["frozen"] = "frozen"
"""The transformation, and the label, of parameters that don't train."""

Transform: TypeAlias = optax.GradientTransformation | Literal["frozen"]


@dataclass(frozen=True)
class Plan:
    """The length of a run and its shared settings, from which a strategy makes its optax transformations.

    Attributes:
        steps: number of updates in the whole run.
        steps_per_epoch: number of updates per epoch.
        batch_size: texts per update.
        layers: number of layers of the body.
        train: the shared settings (weight decay, schedule, clipping).
    """

    steps: int
    steps_per_epoch: int
    batch_size: int
    layers: int
    train: TrainConfig

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole run."""
        return -(-self.steps // self.steps_per_epoch)

    def schedule(self, peak: float, begun: int = 0) -> optax.Schedule:
        """Learning-rate schedule: warm-up from 0 to `peak`, then constant or falling to 0, by `train.schedule`.

        Args:
            peak: the highest learning rate.
            begun: updates of the run before the schedule is first used, for a label that trains from a later stage on.
        """
        warmup = round(self.train.warmup_fraction * self.steps)
        rest = max(1, self.steps - warmup)
        after = {
            "constant": lambda: optax.constant_schedule(peak),
            "linear": lambda: optax.linear_schedule(peak, 0.0, rest),
            "cosine": lambda: optax.cosine_decay_schedule(peak, rest),
        }[self.train.schedule]()
        whole = after
        if warmup:
            whole = optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])
        return (lambda count: whole(count + begun)) if begun else whole

    def adamw(self, peak: float, begun: int = 0) -> optax.GradientTransformation:
        """AdamW (Loshchilov & Hutter 2019, https://arxiv.org/abs/1711.05101) with torch's defaults.

        Args:
            peak, begun: as in `schedule`; weight decay is `train.weight_decay`.
        """
        mask = decays if self.train.weight_decay_mask == "matrices" else None
        return optax.adamw(self.schedule(peak, begun), weight_decay=self.train.weight_decay, mask=mask)

    def clip(self) -> optax.GradientTransformation:
        """Clips the global norm of all trained gradients at `train.clip_norm`; the identity if that is None."""
        norm = self.train.clip_norm
        return optax.identity() if norm is None else optax.clip_by_global_norm(norm)


def decays(tree: Any) -> Any:
    """Mask of the leaves with weight decay under `weight_decay_mask: matrices`: all but biases, norms and prompts."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: leaf.ndim >= 2 and not str(path[-1].key).startswith("prompt/"), tree
    )


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

    def init(params: Any) -> tuple[Any, jax.Array, jax.Array]:
        return transformation.init(params), jnp.float32(factor), jnp.int32(stride)

    def update(gradients: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        before, by, steps = state
        updates, after = transformation.update(gradients, before, params)

        def strode(then: Any, now: Any) -> Any:
            return now._replace(count=then.count + steps * (now.count - then.count)) if _is_schedule(now) else now

        after = jax.tree.map(strode, before, after, is_leaf=_is_schedule)
        return jax.tree.map(lambda change: change * by, updates), (after, by, steps)

    return optax.GradientTransformation(init, update)


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
