"""Strategies that add parameters to the body: how many, their first values, settings, merging."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from strategies.test_strategies import CONFIGS, GPT2, body_size, trained
from support import tiny
from support.bounds import assert_same_leaves, assert_same_logits

from flax_agnews.data.batches import measure
from flax_agnews.errors import UserError
from flax_agnews.models import parameters
from flax_agnews.models.classifier import Classifier
from flax_agnews.models.linear_replacement import merged, unmerged
from flax_agnews.strategies import REGISTRY

every_config = pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.n_layer}x{c.n_embd}")


# What trains


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        # 12 layers: rank 8 from 768 to 2304; 2304 + 3072 scales; two bottlenecks of 48, and 25 layer norms in all;
        # 20 keys and values; and the head, 4 * 768
        ("lora", 12 * 8 * (768 + 2304) + 3072),
        ("ia3", 12 * (2304 + 3072) + 3072),
        ("adapter", 24 * (2 * 768 * 48 + 48 + 768) + 25 * 2 * 768 + 3072),
        ("prefix", 12 * 20 * 2 * 768 + 3072),
        ("lora_prompt", 12 * 8 * (768 + 2304) + 20 * 768 + 3072),
    ],
)
def test_gpt2_trains_as_many_numbers_as_by_hand(name, numbers):
    entry = REGISTRY[name]
    assert trained(entry.build(entry.settings(), GPT2), GPT2)[1] == numbers


def sizes(width):
    """Inputs and outputs of a layer's products."""
    return {
        "attn/c_attn": (width, 3 * width),
        "attn/c_proj": (width, width),
        "mlp/c_fc": (width, 4 * width),
        "mlp/c_proj": (4 * width, width),
    }


@every_config
@pytest.mark.parametrize(
    ("targets", "products"),
    [
        ("c_attn", ["attn/c_attn"]),
        ("c_proj", ["attn/c_proj", "mlp/c_proj"]),
        (" mlp.c_proj,attn.c_attn ", ["mlp/c_proj", "attn/c_attn"]),
        ("c_fc,c_proj,c_attn,attn.c_proj", ["attn/c_attn", "attn/c_proj", "mlp/c_fc", "mlp/c_proj"]),
    ],
)
@pytest.mark.parametrize("top_layers", [None, 1])
def test_lora_is_beside_its_targets(config, targets, products, top_layers):
    settings = {"targets": targets, "rank": 3, "top_layers": top_layers}
    setup, ours = trained(tiny.build("lora", config, **settings), config)
    layers = range(config.n_layer - (top_layers or config.n_layer), config.n_layer)
    paths = {f"transformer/h/{layer}/{p}/lora_{leaf}" for layer in layers for p in products for leaf in "ab"}
    assert setup.trainable == paths | {"score/kernel"}
    updates = sum(3 * sum(sizes(config.n_embd)[p]) for p in products)
    assert ours == len(layers) * updates + 4 * config.n_embd
    assert setup.total_parameters == body_size(config) + ours


@every_config
@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_adapters_are_behind_projections(config, placement):
    setup, _ = trained(tiny.build("adapter", config, placement=placement, reduction=4, top_layers=1), config)
    top, width = config.n_layer - 1, config.n_embd
    projections = ["attn", "mlp"] if placement == "houlsby" else ["mlp"]
    bottlenecks = [f"transformer/h/{top}/{part}/c_proj/adapter_{way}" for part in projections for way in ("down", "up")]
    norms = [f"transformer/h/{top}/ln_1", f"transformer/h/{top}/ln_2", "transformer/ln_f"]
    expected = {f"{path}/{leaf}" for path in bottlenecks for leaf in ("kernel", "bias")} | {"score/kernel"}
    if placement == "houlsby":
        expected |= {f"{path}/{leaf}" for path in norms for leaf in ("scale", "bias")}
    assert setup.trainable == expected
    assert setup.frame.shapes[bottlenecks[0] + "/kernel"] == (width, width // 4)
    assert setup.frame.shapes[bottlenecks[1] + "/kernel"] == (width // 4, width)


@pytest.mark.parametrize(
    ("name", "setting", "value", "allowed"),
    [
        *((name, "learning_rate", 0.0, "above 0") for name in ("lora", "ia3", "adapter", "prefix", "lora_prompt")),
        ("lora", "rank", 0, "1 to 32"),
        ("lora", "rank", 33, "1 to 32"),
        ("lora", "alpha", 0.0, "above 0"),
        ("lora", "dropout", 1.0, "at least 0 and below 1"),
        ("lora", "targets", "c_atn", "some of .*c_attn, .*mlp.c_proj"),
        ("lora", "targets", ",", "some of "),
        ("lora", "top_layers", 0, "1 to 3"),
        ("lora", "top_layers", 4, "1 to 3"),
        ("adapter", "reduction", 0, "1 to 32"),
        ("adapter", "reduction", 33, "1 to 32"),
        ("adapter", "top_layers", 4, "1 to 3"),
        ("prefix", "tokens", 0, "1 to 101"),
        ("prefix", "tokens", 102, "1 to 101"),
        ("lora_prompt", "rank", 0, "1 to 32"),
        ("lora_prompt", "tokens", 102, "1 to 101"),
        ("lora_prompt", "prompt_learning_rate", 0.0, "above 0"),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value, allowed):
    with pytest.raises(UserError, match=rf"^{name}\.{setting} {value}: must be .*{allowed}"):
        tiny.build(name, **{setting: value})


def test_both_rates_of_a_composition():
    """Adam's first update is the rate, whatever the gradient."""
    setup = tiny.prepare(tiny.build("lora_prompt", learning_rate=1e-3, prompt_learning_rate=7e-3), weight_decay=0.0)
    params = {path: jnp.ones(setup.frame.shapes[path]) for path in setup.trainable}
    updates, _ = setup.optimizer.update(params, setup.optimizer.init(params), params)
    for path, update in updates.items():
        rate = 7e-3 if path == "prompt/embedding" else 1e-3
        np.testing.assert_allclose(update, -rate, rtol=1e-5, err_msg=path)  # Adam's epsilon and float32


# First values

TEXTS = tiny.random_split([1, 40, 70, 9])
BATCH = tiny.whole(TEXTS, range(4), measure(TEXTS.tokens.lengths, devices=1, micro_batches=1))


def adapted(name, seed=0, **settings):
    """(the plain classifier, the one that a strategy makes of it)."""
    plain = tiny.random_base().classifier(4, jax.random.key(5))
    return plain, tiny.build(name, **settings).adapt(plain, jax.random.key(seed))


def weights_of(model):
    return parameters.split(model)[1]


def logits(model):
    return tiny.by_number(model(BATCH), BATCH)


@pytest.mark.parametrize("name", ["lora", "ia3"])
def test_nothing_is_changed_at_first(name):
    plain, model = adapted(name)
    np.testing.assert_array_equal(logits(model), logits(plain))


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
def test_adapters_begin_near_the_identity(placement):
    _, model = adapted("adapter", placement=placement, reduction=1)
    kernels = {p: np.asarray(v) for p, v in weights_of(model).items() if "adapter_" in p and p.endswith("kernel")}
    for path, kernel in kernels.items():  # N(0, 0.01) cut at two deviations has 0.88 of its deviation
        assert 0.01 < np.abs(kernel).max() <= 0.02, path
        assert kernel.std() == pytest.approx(0.0088, rel=0.1), path


def test_lora_a_is_kaiming_uniform():
    _, model = adapted("lora", rank=32)
    (a, bound), (inner, inner_bound) = (
        (np.asarray(weights_of(model)[f"transformer/h/1/{product}/lora_a"]), n_in**-0.5)
        for product, n_in in (("attn/c_attn", 32), ("mlp/c_proj", 128))
    )
    for values, most in ((a, bound), (inner, inner_bound)):
        assert 0.98 * most < np.abs(values).max() <= most
        assert values.std() == pytest.approx(most / 3**0.5, rel=0.1)
    assert (a != np.asarray(weights_of(model)["transformer/h/2/attn/c_attn/lora_a"])).all()


def test_a_prefix_of_words_is_a_prompt_of_them():
    """Its keys and values are at first what the body makes of a soft prompt of the same words."""
    _, prefix = adapted("prefix", seed=3)
    _, prompt = adapted("prompt", seed=3)
    assert_same_logits(logits(prefix), logits(prompt))


def test_a_random_prefixs_scale():
    _, model = adapted("prefix", tokens=100, initializer="unit_normal")
    values = np.asarray(weights_of(model)["prompt/keys_values"])
    assert values.shape == (100, 3, 2, 32)
    assert values.std() == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("name", ["lora", "adapter", "prefix", "lora_prompt"])
def test_first_values_are_the_seeds_and_the_given_model_stays(name):
    plain, model = adapted(name, seed=1)
    before = {path: np.array(value) for path, value in weights_of(plain).items()}
    again, other = (adapted(name, seed=seed)[1] for seed in (1, 2))
    assert set(weights_of(plain)) == set(before)
    added = set(weights_of(model)) - set(before)
    same = {p: np.array_equal(weights_of(model)[p], weights_of(again)[p]) for p in added}
    differ = {p for p in added if not np.array_equal(weights_of(model)[p], weights_of(other)[p])}
    assert all(same.values())
    assert differ == {p for p in added if np.asarray(weights_of(model)[p]).any()}
    for path, value in before.items():
        np.testing.assert_array_equal(weights_of(model)[path], value, err_msg=path)


# Merging


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
    assert isinstance(model, Classifier)
    scales.ia3_l[...] = scales.ia3_l[...].at[3].set(0.0)
    with pytest.raises(UserError, match=r"^a scale of \(IA\)\^3 is zero"):
        unmerged(merged(model), model)
