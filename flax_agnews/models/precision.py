"""What products of float32 matrices round to: by JAX's default on a GPU to TF32, on a TPU to bfloat16.

TF32 has float32's exponents, and 10 of its 23 bits of the mantissa (https://arxiv.org/abs/2104.06700 names formats and
their errors). JAX's names of precisions are those of `jax.lax.Precision`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import jax

from flax_agnews.models.backend import Backend

Precision = Literal["default", "high", "highest"]
"""JAX's name of a precision; `default` is that of the backend."""


def rounding(precision: Precision) -> AbstractContextManager[None]:
    """A context in which products are traced in this precision; it holds for their gradients if traced in it too.

    `default` changes nothing: programs stay as they are, and in the precision of any context around.
    """
    if precision == "default":
        return nullcontext()
    context: AbstractContextManager[None] = jax.default_matmul_precision(precision)
    return context


def product_type(precision: Precision, platform: str, generation: float = 0) -> str:
    """The type to which the operands of float32 products are rounded, as people call it.

    Args:
        precision: the chosen precision.
        platform: kind of the devices: cpu, gpu or tpu.
        generation: compute capability of an NVIDIA GPU, such as 9.0; 0 for all else. TF32 came with 8.0.
    """
    if platform == "tpu" and precision != "highest":
        return "bfloat16" if precision == "default" else "3 x bfloat16"
    return "TF32" if platform == "gpu" and generation >= 8 and precision != "highest" else "float32"


def product_type_on(device: Any, precision: Precision) -> str:
    """`product_type` on a device of JAX."""
    backend = Backend.of(device)
    major, minor = backend.cuda or (0, 0)
    return product_type(precision, backend.platform, major + minor / 10)
