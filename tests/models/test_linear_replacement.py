"""LoRA and (IA)^3 are merged into the body's kernels, and taken apart again."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from support.added_parameters import adapted, logits, weights_of
from support.bounds import assert_same_leaves, assert_same_logits

from flax_agnews.errors import UserError
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.linear_replacement import merged, unmerged


def moved(model):
    """The model with other values for all that was added."""
    frame, weights = parameters.split(model)
    rng = np.random.default_rng(0)
    added = [p for p in weights if p.rsplit("/", 1)[1] in ("lora_a", "lora_b", "ia3_l")]
    moves = {path: jnp.asarray(weights[path] + 0.2 * rng.standard_normal(weights[path].shape)) for path in added}
    return frame.merge({**weights, **{path: jnp.float32(value) for path, value in moves.items()}})


MERGED = {
    "lora": {"targets": "c_attn,c_proj,c_fc", "rank": 4, "alpha": 7.0},
    "rslora": {"rank": 4, "alpha": 3.0, "rslora": True},
    "ia3": {},
    "lora_prompt": {"alpha": 9.0},
}


@pytest.mark.parametrize("name", MERGED)
def test_merged_is_the_same_and_can_be_taken_apart(name):
    plain, model = adapted(name.removeprefix("rs"), **MERGED[name])
    model = moved(model)
    body, ours = merged(model), logits(model)
    expected = {path for path in weights_of(model) if path in weights_of(plain) or path.startswith("prompt/")}
    assert set(weights_of(body)) == expected
    assert all(
        type(module) is type(other) for (_, module), (_, other) in zip(modules(body), modules(plain), strict=True)
    )
    assert_same_logits(logits(body), ours)
    assert np.abs(logits(plain) - ours).max() > 0.01 * np.abs(ours).max()
    apart = unmerged(body, model)
    assert_same_logits(logits(apart), ours)
    assert_same_leaves(weights_of(apart), weights_of(model))


def modules(model):
    """The body's modules by path."""
    return sorted(nnx.iter_modules(model.transformer), key=lambda found: str(found[0]))


def test_what_is_not_linear_is_not_merged():
    _, model = adapted("adapter")
    with pytest.raises(UserError, match=r"^a bottleneck adapter isn't linear and can't be merged into the body$"):
        merged(model)


def test_a_scale_of_zero_is_not_taken_apart():
    _, model = adapted("ia3")
    scales = model.transformer.h[1].attn.c_attn
    assert isinstance(model, ClassifierModule)
    scales.ia3_l[...] = scales.ia3_l[...].at[3].set(0.0)
    with pytest.raises(UserError, match=r"^a scale of \(IA\)\^3 is zero"):
        unmerged(merged(model), model)
