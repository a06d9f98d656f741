"""While tests run, an array that isn't of the annotated shape or kind is an error."""

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import TypeCheckError
from support import tiny

from flax_agnews.models.attention import attend_prompt
from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.dropout import Place
from flax_agnews.models.forward_pass import EXACT
from flax_agnews.models.layers import Linear, product
from flax_agnews.models.prompts import INITIALIZERS
from flax_agnews.strategies.lora import LORA


def test_an_inner_axis_that_differs_is_an_error():
    with pytest.raises(TypeCheckError, match=r"product"):
        product(jnp.ones((3, 4)), jnp.ones((5, 6)), FLOAT32)


@pytest.mark.parametrize(
    "transformed", [jax.jit, jax.vmap, lambda f: jax.vmap(jax.jit(f))], ids=["jit", "vmap", "both"]
)
def test_a_wrong_number_of_axes_is_an_error_while_tracing(transformed):
    linear = Linear.random(jax.random.key(0), 4, 6, std=1.0)
    shape = (2, 3, 4) if transformed is jax.jit else (2, 3, 3, 4)
    with pytest.raises(TypeCheckError, match=r"Linear\.__call__"):
        transformed(linear)(jnp.ones(shape))


def test_vmap_shows_the_shape_of_one_of_a_batch():
    linear = Linear.random(jax.random.key(0), 4, 6, std=1.0)
    assert jax.vmap(linear)(jnp.ones((2, 3, 4))).shape == (2, 3, 6)


def test_another_kind_of_number_is_an_error():
    with pytest.raises(TypeCheckError, match=r"Linear\.__call__"):
        Linear.random(jax.random.key(0), 4, 6, std=1.0)(jnp.ones((3, 4), jnp.int32))


def test_axes_of_one_name_are_of_one_size_in_a_dataclass():
    with pytest.raises(TypeCheckError, match="Place"):
        Place(jnp.zeros(3, jnp.uint32), jnp.arange(4))


def test_arguments_of_one_call_share_their_axes():
    heads = jnp.ones((5, 2, 8))
    with pytest.raises(TypeCheckError, match="attend_prompt"):
        attend_prompt(heads, heads[:, :1], heads, EXACT, 1.0)


def test_strategies_are_checked():
    model = tiny.random_base().classifier(2, jax.random.key(0))
    with pytest.raises(TypeCheckError, match="adapt"):
        LORA.build(LORA.settings(), model.config).adapt(model, jnp.ones(3))


def test_what_strategies_add_is_checked():
    from flax_agnews.models.prompts import Prefix

    with pytest.raises(TypeCheckError, match="Prefix"):
        Prefix(jnp.ones((3, 2, 1, 8)))
    assert INITIALIZERS["normal"](tiny.random_base().classifier(2, jax.random.key(0)), jax.random.key(0), 3).ndim == 2
