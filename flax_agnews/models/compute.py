"""How a backend computes a model: types of matrix products and their results, and implementation of attention."""

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax.numpy as jnp

from flax_agnews.models.backend import Backend
from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.models.precision import Precision

Implementation = Literal["blocks", "xla", "cudnn"]
"""Attention in blocks of the packed token axis; or in rows of one text each, by XLA or by cuDNN."""


@dataclass(frozen=True)
class Compute:
    """How a model is computed. Weights, norms, softmax and the residual stream are float32 whatever it is.

    Attributes:
        dtype: type of the operands of matrix products.
        results: type of what linear layers, activations and attention write: what stands between two products.
        precision: what products of float32 matrices may round to; the steps are traced in it (`precision.rounding`).
        attention: implementation of attention in layers without dropout on attention weights; elsewhere it is blocks.
        last_in_rows: whether the last layer's pooled tokens attend to keys in rows of their texts, whatever the other
            layers do, rather than to all tokens of the batch under a mask.
    """

    dtype: Any = jnp.float32
    results: Any = jnp.float32
    precision: Precision = "default"
    attention: Implementation = "blocks"
    last_in_rows: bool = False

    @property
    def exact(self) -> "Compute":
        """The same in float32, as the classification head is computed."""
        return replace(self, dtype=jnp.float32, results=jnp.float32)


FLOAT32 = Compute()
"""Everything in float32, and attention in blocks."""


def compute_on(
    backend: Backend,
    config: GPT2Config,
    dtype: str,
    attention: Literal["auto", "blocks", "rows"] = "auto",
    precision: Precision = "default",
) -> Compute:
    """How a backend computes a body best.

    Products of bfloat16 write bfloat16 on a GPU or TPU, where memory's speed is the limit (steps on an H200 are 8 to
    11 % faster for it); on a CPU they write float32, as its kernels do anyway. For the pooled tokens, a mask over all
    tokens is as fast as rows on a CPU, whose batches have few texts; for 512 texts on a GPU it would move three
    quarters of what a whole layer does.

    Args:
        backend: kind of device.
        config: the body's configuration.
        dtype: type of the operands of products: float32 or bfloat16.
        attention: `blocks`; `rows`; or `auto`: rows where cuDNN computes them.
        precision: what products of float32 matrices may round to; without effect on bfloat16.
    """
    operands = jnp.dtype(dtype)
    results = operands if backend.platform != "cpu" else jnp.dtype(jnp.float32)
    fast = _in_cudnn(backend, operands, config.n_embd // config.n_head)
    rows: Implementation = "cudnn" if fast else "xla"
    rounding: Precision = precision if operands == jnp.float32 else "default"
    in_rows = attention == "rows" or (attention == "auto" and fast)
    return Compute(operands, results, rounding, rows if in_rows else "blocks", in_rows or backend.platform != "cpu")


def _in_cudnn(backend: Backend, dtype: Any, head_width: int) -> bool:
    """Whether cuDNN computes attention with these operands and heads.

    Limits of jax/_src/cudnn/fused_attention_stablehlo.py (check_layout, check_is_flash_attention), and for the GPU of
    https://docs.nvidia.com/deeplearning/cudnn/frontend/latest/operations/Attention.html
    """
    if backend.cuda is None or backend.cuda < (8, 0) or dtype != jnp.bfloat16:
        return False
    return head_width % 8 == 0 and head_width <= (256 if backend.cuda >= (9, 0) else 128)
