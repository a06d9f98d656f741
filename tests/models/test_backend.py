"""The kind of a device is read from what JAX says of it."""

from types import SimpleNamespace

import jax

from flax_agnews.models.backend import Backend


def gpu(capability, version):
    """What JAX says of a GPU, which there isn't here: no more of it is read."""
    return SimpleNamespace(
        platform="gpu", compute_capability=capability, client=SimpleNamespace(platform_version=version)
    )


def test_the_kind_of_a_device_is_read_from_it():
    assert Backend.of(jax.devices("cpu")[0]) == Backend("cpu")
    assert Backend.of(gpu("9.0", "PJRT C API\ncuda 12090")) == Backend("gpu", (9, 0))
    assert Backend.of(gpu("12.0", "cuda 13000")) == Backend("gpu", (12, 0))
    assert Backend.of(gpu("gfx90a", "rocm 60300")) == Backend("gpu")
