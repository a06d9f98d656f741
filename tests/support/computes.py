"""How backends compute a model in bfloat16, as they do without the backend; XLA stands in for cuDNN's attention."""

from dataclasses import replace

import jax.numpy as jnp

from flax_agnews.models.compute import FLOAT32, Compute

HALF = jnp.dtype("bfloat16")

ON_CPU = Compute(HALF, jnp.dtype("float32"))
ON_GPU = Compute(HALF, HALF, last_in_rows=True)
ON_GPU_IN_ROWS = replace(ON_GPU, attention="xla")
LAST_IN_ROWS = replace(FLOAT32, last_in_rows=True)
ROWS = replace(LAST_IN_ROWS, attention="xla")


def computed(setup, compute):
    """A setup whose model is computed in this way."""
    return replace(setup, model=replace(setup.model, compute=compute))
