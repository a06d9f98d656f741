"""A program for each device is the program of one device; other claims about devices are tested with every strategy."""

import jax
import numpy as np
from support import tiny

from flax_agnews.training.compiler import Compiler
from flax_agnews.training.parallel import Devices


def function(state: jax.Array, frozen: jax.Array, batch: jax.Array) -> dict[str, jax.Array]:
    return {"sum": state + jax.nn.softmax(batch @ frozen).sum(), "rows": batch.sum(1)}


def values(devices: Devices) -> tuple[jax.Array, jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    frozen, batch = rng.normal(size=(5, 3)).astype(np.float32), rng.normal(size=(1, 4, 5)).astype(np.float32)
    return devices.state(np.float32(1)), devices.shared(frozen), devices.batch(batch)


def test_a_program_for_each_device_is_the_same_text_and_gives_the_same_bytes_there() -> None:
    apart = tiny.devices(4).apart
    assert [device.devices for device in apart] == [(device,) for device in jax.local_devices()[:4]]
    example = values(apart[0])
    texts = [lower(function, *example, donate=True).as_text() for lower in (apart[0].lower, apart[0].lower_for_each)]
    assert texts[0] == texts[1]
    compiled = Compiler(apart[0])(function, *example)
    expected = function(*(np.asarray(value) for value in (example[0], example[1], example[2][0])))
    first = compiled(*example)
    for devices in apart[1:]:
        found = compiled.on(devices)(*values(devices))
        assert found["sum"].devices() == set(devices.devices)
        for name, value in found.items():
            assert np.asarray(value).tobytes() == np.asarray(first[name]).tobytes()
            np.testing.assert_allclose(value, expected[name], rtol=1e-5)
    assert compiled.on(apart[1]) is compiled.on(apart[1])


def test_arrays_of_a_device_by_itself_are_made_there() -> None:
    together = tiny.devices(4)
    for devices in together.apart:
        with devices.by_default():
            assert jax.numpy.ones(3).devices() == set(devices.devices)
    with together.by_default():
        assert jax.numpy.ones(3).devices() == {jax.devices()[0]}
