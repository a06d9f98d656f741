"""The key of cached activations depends on texts, lower weights, types and depth."""

from dataclasses import replace

import numpy as np
from support.computes import ON_CPU, ON_GPU, ON_GPU_IN_ROWS, ROWS
from support.frozen_layers import DATA, setup_of

from flax_agnews.data.tokens import Ragged
from flax_agnews.models.compute import FLOAT32
from flax_agnews.training.frozen_layers import Trunk


def test_the_key_names_texts_lower_weights_types_and_depth():
    setup = setup_of("partial")
    texts, base = DATA.train.tokens, setup.model.base

    def key(texts=texts, depth=2, dtype="float32", compute=FLOAT32, **weights):
        parameters = {**base.parameters, **{path.replace("__", "/"): value for path, value in weights.items()}}
        return Trunk(replace(base, parameters=parameters), depth, compute).key(texts, np.dtype(dtype))

    def changed(path):
        return {path: base.parameters[path] + np.float32(1)}

    assert key() == key(**changed("transformer/h/2/mlp/c_fc/kernel")) == key()
    ids = texts.ids.copy()
    ids[5] += 1
    offsets = texts.offsets.copy()
    offsets[1] += 1
    others = [
        key(Ragged(ids, texts.offsets)),
        key(Ragged(texts.ids, offsets)),
        key(depth=1),
        key(dtype="float16"),
        *(key(compute=compute) for compute in (ON_CPU, ON_GPU, ON_GPU_IN_ROWS, ROWS)),
        *(key(**changed(f"transformer/{p}")) for p in ("wte/embedding", "wpe/embedding", "h/1/attn/c_proj/bias")),
    ]
    assert len({key(), *others}) == 1 + len(others)
