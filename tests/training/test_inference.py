"""Predictions have the naive way's logits, whatever texts stand beside a text, from few compiled shapes."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import naive, tiny
from support.bounds import assert_same_logits

from flax_agnews.data.tokens import Ragged
from flax_agnews.training.inference import Inference, stride_of
from flax_agnews.training.state import create_state

KNOWN_TO_NAIVE = ("full", "prompt", "partial")
TEXTS = tiny.random_split([1, 5, 40, 8, 33, 100, 112, 40, tiny.LONGEST, 36, 130], seed=4).tokens
"""They stand 8, 40, 112 and 160 tokens apart: four programs."""


@cache
def made(name: str, dtype: str) -> tuple[Inference, dict[str, Any]]:
    """A strategy as a run begins it, and its weights."""
    setup = tiny.prepare(name, dtype=dtype)
    state, frozen = create_state(setup, {p: jnp.asarray(v) for p, v in setup.model.base.parameters.items()}, seed=5)
    return Inference(setup.model, state.params, frozen), {**state.params, **frozen}


def picked(rows: Any) -> Ragged:
    return Ragged.of(TEXTS[row] for row in rows)


@pytest.mark.parametrize("name", KNOWN_TO_NAIVE)
def test_a_text_has_the_logits_of_the_naive_way(name: str) -> None:
    inference, weights = made(name, "float32")
    exact = {path: np.asarray(value, np.float64) for path, value in weights.items()}
    alone = [naive.logits(exact, TEXTS[row], tiny.CONFIG) for row in range(len(TEXTS))]
    assert_same_logits(inference.logits(TEXTS), alone)


@pytest.mark.parametrize("name", tiny.original_first())
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_text_has_the_same_bits_alone_beside_others_and_in_any_order(name: str, dtype: str) -> None:
    inference, _ = made(name, dtype)
    together = inference.logits(TEXTS)
    assert len(np.unique(together, axis=0)) == len(TEXTS)
    assert len(inference.evaluator.names) == 4
    alone = np.concatenate([inference.logits(picked([row])) for row in range(len(TEXTS))])
    np.testing.assert_array_equal(alone, together)
    order = np.random.default_rng(0).permutation(len(TEXTS))
    np.testing.assert_array_equal(inference.logits(picked([*order, *order]))[len(order) :], together[order])


@pytest.mark.parametrize("name", ["full", "prompt"])
def test_bfloat16_is_the_model_s_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels that are cast once give the very numbers of those that the model casts itself."""
    inference, weights = made(name, "bfloat16")
    _, cast = inference.evaluator.weights(weights)
    kernels = {path for path in weights if path.startswith("transformer/h/") and path.endswith("/kernel")}
    assert {path for path, value in cast.items() if value.dtype == jnp.bfloat16} == kernels
    monkeypatch.setattr("flax_agnews.training.evaluator.in_compute_type", lambda model, weights: weights)
    uncast = Inference(inference.model, weights, {})
    np.testing.assert_array_equal(inference.logits(TEXTS), uncast.logits(TEXTS))


def test_few_shapes_are_compiled_whatever_comes() -> None:
    """Chunks of random lengths: as many programs as there are strides, and none for the second time."""
    model, weights = made("full", "float32")[0].model, made("full", "float32")[1]
    inference, compiled = Inference(model, weights, {}), list[str]()

    def count(event: str, seconds: float, **_: Any) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    rng = np.random.default_rng(0)
    chunks = [Ragged.of(rng.integers(0, 101, n) for n in rng.integers(1, 33, 50)) for _ in range(6)]
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        for chunk in chunks[:3]:
            inference.logits(chunk)
        assert len(compiled) == len({*stride_of(np.arange(1, 33)).tolist()}) == 4
        for chunk in chunks:
            inference.logits(chunk)
        assert len(compiled) == 4
    finally:
        jax.monitoring.unregister_event_duration_listener(count)


def test_strides_hold_their_texts_and_waste_little() -> None:
    lengths = np.arange(1, 1025)
    strides = stride_of(lengths)
    assert (strides >= lengths).all()
    assert (strides - lengths <= np.maximum(7, lengths / 4)).all()
    assert len(set(strides[:256].tolist())) == 16
    assert len(set(strides.tolist())) == 24
