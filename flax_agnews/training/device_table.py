"""A table of devices for planning without one: how fast they train, and how much memory programs have.

Speeds are those of `shape_prices.SPEEDS`, which is an NVIDIA H200's (measured: GPT-2 124M in bfloat16, 421,000 tokens a
second in updates of 26,700 tokens, benchmarks/results/gpu.md; float32, with products in TF32, is assumed to be half as
fast). Other devices have shares of that, by the estimate of benchmarks/results/gpu_traffic.md: products at the peak
that the maker states, and all else at the speed of memory, one after the other.
"""

from dataclasses import dataclass

from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.training.shape_prices import SPEEDS

_FRACTION = 0.75
"""Share of a GPU's memory that JAX gives to programs, if not asked otherwise (XLA_PYTHON_CLIENT_MEM_FRACTION)."""


@dataclass(frozen=True)
class Kind:
    """A kind of device.

    Attributes:
        share: its speed of training as a share of an H200's.
        bytes: its memory.
        source: where the share is from, for people.
    """

    share: float
    bytes: float
    source: str

    @property
    def limit(self) -> int:
        """Bytes that programs may use."""
        return int(_FRACTION * self.bytes)

    def rate(self, body: GPT2Config, dtype: str) -> float:
        """FLOP a second of a training step (counted as by `training/flops.py`), in large batches.

        Args:
            body: the model's sizes; narrow models spend more time outside of products.
            dtype: `model.dtype`.
        """
        speed = SPEEDS["gpu"]
        return self.share * speed.products[dtype] / (1 + speed.rest / body.n_embd)


KINDS = {
    # 17.8 ms of products and 16.6 ms of memory on an H200 (989 TFLOP/s in bfloat16, 4.8 TB/s), 23.7 ms on an H100 SXM
    # (989, 3.35 TB/s); on an A100 SXM (312, 2.04 TB/s) 56 and 39 ms. Peaks: NVIDIA's data sheets.
    "h200": Kind(1.0, 141e9, "measured on an H200"),
    "h100": Kind(0.83, 80e9, "0.83 of a measured H200, by peak products and memory's speed; not measured"),
    "a100": Kind(0.36, 80e9, "0.36 of a measured H200, by peak products and memory's speed; not measured"),
}
"""`plan.device` -> the device."""
