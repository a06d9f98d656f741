"""Exports to FlaxGPT2 have the same weights in the places that transformers 4 reads."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from flax import serialization
from safetensors.numpy import load_file
from support.exported_runs import Made
from support.small_experiments import BODY

from flax_agnews import export_run, load_base
from flax_agnews.config import ModelConfig


def _places(tree: dict[str, Any], before: str = "") -> dict[str, tuple[int, ...]]:
    found = {}
    for name, value in tree.items():
        found |= _places(value, f"{before}{name}/") if isinstance(value, dict) else {before + name: value.shape}
    return found


def test_flaxgpt2_has_the_same_weights_in_the_places_of_transformers_4(
    full: Made, tmp_path: Path, shared: Path
) -> None:
    export_run(full.run, "flaxgpt2", tmp_path / "flax")
    tree = serialization.msgpack_restore((tmp_path / "flax" / "flax_model.msgpack").read_bytes())
    np.testing.assert_array_equal(
        tree["score"]["kernel"], load_file(full.folder / "model.safetensors")["score.weight"].T
    )
    theirs = serialization.msgpack_restore((shared / "flax_gpt2_fixture" / "flax_model.msgpack").read_bytes())
    theirs = _places(theirs.get("transformer", theirs))
    size = json.loads((shared / "flax_gpt2_fixture" / "config.json").read_text())
    ours = _places(tree["transformer"])
    layers = [f"h/{layer}/" for layer in range(BODY["n_layer"], size["n_layer"])]
    assert set(ours) == {place for place in theirs if not place.startswith(tuple(layers))}
    for place in ("h/0/attn/c_attn/kernel", "h/0/mlp/c_fc/kernel", "h/0/mlp/c_proj/kernel"):
        assert np.divide(ours[place], BODY["n_embd"]).tolist() == np.divide(theirs[place], size["n_embd"]).tolist()
    flax, hf = (load_base(ModelConfig(name=str(folder))) for folder in (tmp_path / "flax", full.folder))
    assert (flax.hash, flax.config) == (hf.hash, hf.config)
