"""Weight files give the numbers that transformers reads; a file that can't be loaded is refused in one line."""

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.reference import WEIGHTS, Tensors, change, configure, numbers, saved, to_msgpack
from support.weight_folders import load, refusal
from transformers import GPT2Model

from flax_agnews.models.pretrained import Base

INDEX = "model.safetensors.index.json"


def assert_numbers(base: Base, expected: dict[str, np.ndarray]) -> None:
    assert set(base.parameters) == set(expected)
    for path, value in base.parameters.items():
        assert value.dtype == np.float32, path
        np.testing.assert_array_equal(value, expected[path], err_msg=path)


# What loads.


def test_one_file(folder: Path, model: Any) -> None:
    assert_numbers(load(folder), numbers(model))


def test_shards(model: Any, tmp_path: Path) -> None:
    folder = Path(saved(model, tmp_path, max_shard_size="20KB"))
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    assert not (folder / WEIGHTS).exists()
    assert_numbers(load(folder), numbers(model))


def test_msgpack(folder: Path, model: Any) -> None:
    to_msgpack(folder, model)
    assert_numbers(load(folder), numbers(model))


def test_old_attention_buffers_are_skipped(folder: Path, model: Any) -> None:
    def add(tensors: Tensors) -> None:
        for layer in range(model.config.n_layer):
            tensors[f"h.{layer}.attn.bias"] = torch.ones(130, 130, dtype=torch.bool).tril()[None, None]
            tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)

    change(folder, add)
    assert_numbers(load(folder), numbers(model))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_loads_as_float32(kind: torch.dtype, folder: Path, model: Any) -> None:
    change(folder, lambda tensors: tensors.update({key: value.to(kind) for key, value in tensors.items()}))
    half = {path: torch.tensor(value).to(kind).float().numpy() for path, value in numbers(model).items()}
    assert_numbers(load(folder), half)


def test_a_saved_body_loads_here_and_in_transformers(folder: Path, tmp_path: Path) -> None:
    configure(folder, n_inner=128, layer_norm_epsilon=1e-3, activation_function="relu")
    base = load(folder)
    base.save(tmp_path / "again")
    again = load(tmp_path / "again")
    assert_numbers(again, dict(base.parameters))
    assert again.config == base.config
    assert again.hash == base.hash
    theirs, info = GPT2Model.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(info.values()), info
    assert_numbers(base, numbers(theirs))
    assert (theirs.config.n_inner, theirs.config.layer_norm_epsilon) == (128, 1e-3)
    assert theirs.config.activation_function == "relu"


def test_the_hash_is_of_the_numbers(folder: Path) -> None:
    base = load(folder)
    for path in ("transformer/wte/embedding", "transformer/h/1/attn/c_attn/bias", "transformer/ln_f/scale"):
        changed = base.parameters[path].copy()
        changed.flat[-1] = np.nextafter(changed.flat[-1], np.float32(9))
        assert replace(base, parameters={**base.parameters, path: changed}).hash != base.hash
    assert replace(base, name="another", parameters=dict(reversed(base.parameters.items()))).hash == base.hash


# What doesn't: files.


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return open, (str(self.file), "w")


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_pickle_is_never_loaded(name: str, folder: Path, tmp_path: Path) -> None:
    (folder / WEIGHTS).unlink()
    sprung = tmp_path / "sprung"
    poison = pickle.dumps(Trap(sprung))
    (folder / name).write_bytes(poison)
    message = refusal(folder)
    assert not sprung.exists()
    assert "pytorch_model.bin" in message
    assert "save_pretrained" in message
    pickle.loads(poison).close()
    assert sprung.exists(), "the trap was no trap"


def test_no_weights_at_all(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    assert "neither model.safetensors nor flax_model.msgpack" in refusal(folder)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut in the header": lambda data: data[:100],
    "cut in the numbers": lambda data: data[:-1000],
    "garbage": lambda data: bytes(np.random.default_rng(0).integers(0, 256, 5000, np.uint8)),
    "text": lambda data: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("kind", ["safetensors", "msgpack"])
def test_damaged_files(kind: str, damage: Callable[[bytes], bytes], folder: Path, model: Any) -> None:
    file = folder / WEIGHTS if kind == "safetensors" else to_msgpack(folder, model)
    file.write_bytes(damage(file.read_bytes()))
    message = refusal(folder)
    assert file.name in message
    assert "damaged" in message


def test_every_wrong_shape_is_listed(folder: Path) -> None:
    def shrink(tensors: Tensors) -> None:
        tensors["wpe.weight"] = tensors["wpe.weight"][:64].clone()
        tensors["h.1.mlp.c_fc.bias"] = tensors["h.1.mlp.c_fc.bias"][:5].clone()

    change(folder, shrink)
    message = refusal(folder)
    assert "wpe.weight is [64, 32] instead of [130, 32]" in message
    assert "h.1.mlp.c_fc.bias is [5] instead of [128]" in message
    assert message.count("instead of") == 2


def test_a_weight_under_two_names(folder: Path) -> None:
    change(folder, lambda tensors: tensors.update({"transformer.wte.weight": tensors["wte.weight"] + 1}))
    assert "with transformer. before their names and without" in refusal(folder)


def test_whole_numbers_are_no_weights(folder: Path) -> None:
    """They would need a scale to be weights."""
    change(folder, lambda tensors: tensors.update({"wpe.weight": tensors["wpe.weight"].to(torch.int8)}))
    assert "wpe.weight is int8; weights are float16, bfloat16, float32, float64" in refusal(folder)


def test_every_missing_weight_is_listed(folder: Path) -> None:
    gone = ("ln_f.bias", "h.0.attn.c_proj.weight", "wte.weight")
    change(folder, lambda tensors: [tensors.pop(key) for key in gone])
    message = refusal(folder)
    assert all(key in message for key in gone)
    assert "h.1." not in message


def test_layers_beyond_the_configuration(folder: Path) -> None:
    configure(folder, n_layer=1)
    message = refusal(folder)
    assert "h.1.ln_1.weight" in message
    assert "h.0." not in message


def test_layers_that_the_file_lacks(folder: Path) -> None:
    configure(folder, n_layer=3)
    message = refusal(folder)
    assert "lacks" in message
    assert "h.2.attn.c_attn.weight" in message


# What doesn't: shards.


@pytest.fixture
def shards(model: Any, tmp_path: Path) -> Path:
    return Path(saved(model, tmp_path / "model", max_shard_size="20KB"))


def repoint(folder: Path, name: str) -> None:
    """Lets the index find one tensor in another file."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["wte.weight"] = name
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize("where", ["../secret.safetensors", "{outside}/secret.safetensors", "..", "sub/../../x"])
def test_a_shard_outside_the_folder(where: str, shards: Path, tmp_path: Path) -> None:
    shutil.copy(next(shards.glob("model-00001*")), tmp_path / "secret.safetensors")
    name = where.format(outside=tmp_path)
    repoint(shards, name)
    message = refusal(shards)
    assert "names a file outside the model's folder" in message
    assert name in message


def test_a_weight_in_two_shards(shards: Path) -> None:
    first, second = sorted(shards.glob("model-*.safetensors"))[:2]
    key, value = next(iter(load_file(first).items()))
    save_file({**load_file(second), key: value + 1}, second, metadata={"format": "pt"})
    message = refusal(shards)
    assert second.name in message
    assert key in message


def test_a_missing_shard(shards: Path) -> None:
    lost = next(shards.glob("model-00002*"))
    lost.unlink()
    message = refusal(shards)
    assert lost.name in message
    assert "missing" in message


def test_a_truncated_shard(shards: Path) -> None:
    cut = next(shards.glob("model-00002*"))
    cut.write_bytes(cut.read_bytes()[:-10])
    assert cut.name in refusal(shards)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": {}}}', '{"weight_map": {"a": 7}}', "\xff"],
)
def test_a_damaged_index(content: str, shards: Path) -> None:
    (shards / INDEX).write_bytes(content.encode("latin-1"))
    assert INDEX in refusal(shards)


# What doesn't: config.json.
