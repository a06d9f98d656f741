"""Dropout masks: a published hash, the right share, independent of each other, the same in every arrangement."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare
from support import naive, tiny

from flax_agnews.config import ModelConfig
from flax_agnews.models.dropout import PROMPT_TEXT, Noise, Place, Rates, keep, mix
from flax_agnews.models.pretrained import Base
from flax_agnews.training.state import create_state, dropout_rates

TEXTS, POSITIONS, UNITS = 24, 12, 64
NOISY = (True,) * 13


def mask(*, seed=42, step=7, depth=3, site=2, texts=0, positions=0, units=0, rate=0.5):
    """Which units stay: bool [texts, positions, units], all numbers from the given ones on."""
    noise = Noise(jnp.uint32(seed), jnp.uint32(step), Rates(rate, rate, rate, NOISY))
    text = jnp.uint32(texts) + jnp.arange(TEXTS, dtype=jnp.uint32)[:, None]
    position = positions + jnp.arange(POSITIONS)[None, :]
    rows = noise.layer(depth).rows(site, Place(*jnp.broadcast_arrays(text, position)))
    return np.asarray(keep(rows[..., None], jnp.uint32(units) + jnp.arange(UNITS, dtype=jnp.uint32), rate))


def correlation(a, b):
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def is_noise(a, b):
    """Whether two masks correlate no more than independent ones: within 4 standard errors."""
    return abs(correlation(a, b)) < 4 / np.sqrt(a.size)


def test_the_hash_is_murmur3s():
    # Published: MurmurHash3_x86_32 of an empty key is the finalizer of its seed.
    published = {0: 0x00000000, 1: 0x514E28B7, 0xFFFFFFFF: 0x81F16F39}
    assert {s: int(mix(jnp.uint32(s))) for s in published} == published


@given(*[st.integers(0, 2**32 - 1)] * 5, st.integers(0, 12), st.sampled_from([0, 1, 2, 3]))
@settings(max_examples=50, deadline=None)
def test_a_mask_is_the_documented_function_of_its_place(seed, step, text, position, unit, depth, site):
    noise = Noise(jnp.uint32(seed), jnp.uint32(step), Rates(0.3, 0.3, 0.3, NOISY))
    rows = noise.layer(depth).rows(site, Place(jnp.array([text], jnp.uint32), jnp.array([position], jnp.uint32)))
    units = np.array([unit, 0, 2**16 + 1], np.uint32)
    draws = naive.Draws(seed, step, (0.3, 0.3, 0.3), NOISY)
    expected = draws.kept(depth, site, np.array([text], np.uint32), np.array([position], np.uint32), units)
    np.testing.assert_array_equal(keep(rows[:, None], jnp.asarray(units), 0.3), expected)


# Statistics. The masks are fixed, so no test can flicker; 1e-4 is what chance would miss once in ten thousand.


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("site", [0, 1, 2, 3])
def test_the_share_that_stays(rate, site):
    kept = mask(rate=rate, site=site)
    assert binomtest(int(kept.sum()), kept.size, 1 - rate).pvalue > 1e-4


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_what_stays_is_scaled_so_that_the_mean_does(rate):
    noise = Noise(jnp.uint32(1), jnp.uint32(2), Rates(rate, rate, rate, NOISY))
    x = jnp.full((500, 64), 3.0)
    y = np.asarray(noise.layer(1).drop(x, 2, Place(jnp.zeros(500, jnp.uint32), jnp.arange(500))))
    assert set(np.unique(y)) == {np.float32(0), np.float32(3.0) / np.float32(1 - rate)}
    deviation = 3 * np.sqrt(rate / (1 - rate) / y.size)
    assert abs(y.mean() - 3) < 4 * deviation


@pytest.mark.parametrize("coordinate", ["seed", "step", "depth", "site"])
def test_masks_of_other_places_are_independent(coordinate):
    values = [0, 1, 2, 3] if coordinate in ("site", "depth") else [0, 1, 2, 42, 43, 1000, 2**31]
    masks = [mask(**{coordinate: value}) for value in values]
    assert all(is_noise(a, b) for a, b in itertools.combinations(masks, 2))


def test_depth_and_site_are_never_one_number():
    # A layer's last site and the next layer's first are other masks, whatever way they are counted.
    masks = [mask(depth=depth, site=site) for depth in range(3) for site in range(4)]
    assert all(is_noise(a, b) for a, b in itertools.combinations(masks, 2))


@pytest.mark.parametrize("axis", [0, 1, 2], ids=["texts", "positions", "units"])
@pytest.mark.parametrize("lag", [1, 2, 3, 7])
def test_neighbours_in_a_mask_are_independent(axis, lag):
    kept = mask()
    here = np.take(kept, range(kept.shape[axis] - lag), axis)
    there = np.take(kept, range(lag, kept.shape[axis]), axis)
    assert is_noise(here, there)


def test_coordinates_do_not_stand_for_each_other():
    kept = mask()
    swapped = np.swapaxes(kept[:POSITIONS], 0, 1)
    off_diagonal = ~np.eye(POSITIONS, dtype=bool)
    assert is_noise(kept[:POSITIONS][off_diagonal], swapped[off_diagonal])
    assert is_noise(mask(seed=3, step=5), mask(seed=5, step=3))
    assert is_noise(mask(step=1, texts=0), mask(step=0, texts=1))


def test_triples_of_units_are_uniform():
    # At rate 1/2 all 8 patterns of three neighbours are equally frequent, so not even three units are tied together.
    kept = mask(rate=0.5)[..., : UNITS // 3 * 3].reshape(-1, 3)
    patterns = np.bincount(kept @ [1, 2, 4], minlength=8)
    assert chisquare(patterns).pvalue > 1e-4


def test_attention_units_of_other_heads_are_independent():
    # An attention weight's unit is head * 2^16 + the key's position.
    heads = [mask(units=head * 2**16) for head in range(4)]
    assert all(is_noise(a, b) for a, b in itertools.combinations(heads, 2))


def test_a_prompts_masks_are_those_of_no_text():
    assert is_noise(mask(texts=0), mask(texts=PROMPT_TEXT - TEXTS + 1))
    assert PROMPT_TEXT == naive.PROMPT


# Which depths are noisy


@pytest.mark.parametrize("dropout_frozen", [False, True])
@pytest.mark.parametrize("name", ["full", "prompt", "partial"])
def test_frozen_layers_are_quiet_unless_asked(name, dropout_frozen):
    """Embeddings and layers 1 to 3 that draw, by what SEED says that trains."""
    trains = {"full": (1, 1, 1, 1), "prompt": (0, 0, 0, 0), "partial": (0, 0, 1, 1)}[name]
    rates = tiny.prepare(name, dropout_frozen=dropout_frozen).rates
    assert rates.noisy == tuple(bool(t) or dropout_frozen for t in trains)


@pytest.mark.parametrize("dropout_frozen", [False, True])
def test_a_frozen_body_is_untouched_by_noise(dropout_frozen):
    setup = tiny.prepare("prompt", dropout=0.5, dropout_frozen=dropout_frozen)
    split = tiny.random_split([5, 20])
    state, frozen = create_state(setup, {p: jnp.asarray(v) for p, v in setup.model.base.parameters.items()}, 0)
    batch = tiny.whole(split, [0, 1], tiny.even(blocks=2, slots=2, lookback=1))
    noise = Noise(jnp.uint32(0), jnp.uint32(0), setup.rates)

    @jax.jit
    def both(weights):
        model = setup.model.frame.merge(weights)
        return model(batch, noise), model(batch)

    noisy, quiet = both({**state.params, **frozen})
    assert (np.asarray(noisy) == np.asarray(quiet)).all() == (not dropout_frozen)


def test_rates_come_from_the_body_unless_one_is_set():

    base = Base("tiny", replace(tiny.CONFIG, embd_pdrop=0.1, attn_pdrop=0.2, resid_pdrop=0.3), {})
    everything = frozenset(tiny.prepare("full").trainable)
    noise = Noise(jnp.uint32(0), jnp.uint32(0), dropout_rates(base, ModelConfig(), everything))
    assert list(noise.layer(1).rates) == [0.1, 0.2, 0.3, 0.3]
    noise = Noise(jnp.uint32(0), jnp.uint32(0), dropout_rates(base, ModelConfig(dropout=0.4), everything))
    assert list(noise.layer(1).rates) == [0.4] * 4
