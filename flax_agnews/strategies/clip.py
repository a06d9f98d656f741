"""Clipping by the global norm, with a norm that the training step has computed already.

`optax.clip_by_global_norm` computes the norm itself: one more pass over all gradients.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array


class KnownNorm(NamedTuple):
    """Gradients whose global norm is known; the extra argument `known_norm` of a transformation's update.

    Attributes:
        gradients: the tree of gradients.
        norm: [] their global norm.
    """

    gradients: Any
    norm: Array


def clip_by_global_norm(max_norm: float) -> optax.GradientTransformationExtraArgs:
    """Makes `optax.clip_by_global_norm`, up to rounding, that needs no pass over gradients whose norm is known.

    Pascanu et al. 2012, algorithm 1 (https://arxiv.org/abs/1211.5063). The known norm is that of the step's gradients,
    and is used for these arrays alone: after another transformation, or for some of them, the norm is computed.

    Args:
        max_norm: the largest global norm; larger gradients are scaled down to it.
    """

    def update(
        gradients: Any, state: Any, params: Any = None, *, known_norm: KnownNorm | None = None, **others: Any
    ) -> tuple[Any, Any]:
        norm = _norm_of(gradients, known_norm)
        # A factor, which XLA fuses into what reads the gradients: it would write quotients to memory first.
        factor = jnp.where(norm < max_norm, 1.0, max_norm / norm)
        return jax.tree.map(lambda gradient: gradient * factor.astype(gradient.dtype), gradients), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _norm_of(gradients: Any, known: KnownNorm | None) -> Array:
    if known is not None:
        ours, theirs = jax.tree.leaves(gradients), jax.tree.leaves(known.gradients)
        if len(ours) == len(theirs) and all(a is b for a, b in zip(ours, theirs, strict=True)):
            return known.norm
    return optax.tree.norm(gradients)
