"""Bytes that collectives move, counted from compiled programs whose collectives are known."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from benchmarks.support.collectives import moved

DEVICES, LOOPS = 4, 3


def test_collectives_of_a_real_program() -> None:
    """A gather of 8 x 16, LOOPS scatters of the same size in a loop, a sum of 5 numbers and a shift of one row."""

    def one_device(part: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        whole = jax.lax.all_gather(part, "d", axis=0, tiled=True)

        def step(carry: jax.Array, _: None) -> tuple[jax.Array, None]:
            again = whole * carry.sum()
            return jax.lax.psum_scatter(again, "d", scatter_dimension=0, tiled=True), None

        scattered, _ = jax.lax.scan(step, part, length=LOOPS)
        shifted = jax.lax.ppermute(part[0], "d", [(i, (i + 1) % DEVICES) for i in range(DEVICES)])
        return scattered, jax.lax.psum(scattered[0, :5], "d"), shifted

    mesh = Mesh(np.array(jax.devices()[:DEVICES]), ("d",))
    mapped = jax.shard_map(one_device, mesh=mesh, in_specs=P("d"), out_specs=(P("d"), P(), P("d")), check_vma=False)
    text = jax.jit(mapped).lower(jnp.ones((8, 16))).compile().as_text()
    whole = 4 * 8 * 16
    assert moved(text) == {
        "all-gather": whole * 3 // 4,
        "reduce-scatter": LOOPS * whole * 3 // 4,
        "all-reduce": 2 * (4 * 5) * 3 // 4,
        "collective-permute": 4 * 16,
    }


def test_one_device_moves_nothing() -> None:
    assert moved(jax.jit(jnp.sum).lower(jnp.ones(3)).compile().as_text()) == {}


def test_collectives_that_run_beside_others() -> None:
    """As on a GPU: started and done, with groups by their shape; the operands are part of a gather's result."""
    text = """
ENTRY %main (p: f32[2,16]) -> f32[8,16] {
  %p = f32[2,16]{1,0} parameter(0)
  %s = (f32[2,16]{1,0}, f32[8,16]{1,0}) all-gather-start(%p), replica_groups=[1,4]<=[4], dimensions={0}
  %r = f32[2,16]{1,0} all-reduce-start(%p), replica_groups=[1,4]<=[4], to_apply=%add
  %d = f32[2,16]{1,0} all-reduce-done(%r)
  ROOT %e = f32[8,16]{1,0} all-gather-done(%s)
}
"""
    assert moved(text) == {"all-gather": 512 * 3 // 4, "all-reduce": 2 * 128 * 3 // 4}
