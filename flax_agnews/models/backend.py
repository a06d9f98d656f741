"""The kind of device that computes, on which types, precision and attention depend."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Backend:
    """The kind of device that computes.

    Attributes:
        platform: cpu, gpu or tpu.
        cuda: an NVIDIA GPU's compute capability, (9, 0) for example; None for all else.
    """

    platform: str
    cuda: tuple[int, int] | None = None

    @classmethod
    def of(cls, device: Any) -> "Backend":
        """The kind of one of JAX's devices."""
        if device.platform != "gpu" or "cuda" not in device.client.platform_version:
            return cls(device.platform)
        major, minor = device.compute_capability.split(".")
        return cls("gpu", (int(major), int(minor)))
