"""LoRA: which products have an update, and its first values."""

import numpy as np
import pytest
from support import tiny
from support.added_parameters import adapted, weights_of
from support.strategy_sizes import body_size, every_config, trained


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
    assert setup.model.total_parameters == body_size(config) + ours


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
