"""A model folder's config.json that is missing, of another kind or impossible is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from support.reference import configure
from support.weight_folders import refusal


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "no such directory" in refusal(tmp_path / "nowhere")


def test_a_missing_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "has no config.json" in refusal(folder)


@pytest.mark.parametrize("content", ["", "{'single': 1}", "[1, 2]", "null", "\xff\xfe"])
def test_a_configuration_that_is_no_json_object(content: str, folder: Path) -> None:
    (folder / "config.json").write_bytes(content.encode("latin-1"))
    assert "JSON" in refusal(folder)


def test_another_kind_of_model(folder: Path) -> None:
    configure(folder, model_type="bert")
    message = refusal(folder)
    assert "bert" in message
    assert "gpt2" in message


IMPOSSIBLE = {
    "n_layer": (0, -1, 2.5, "12", [12], True, 1001),
    "vocab_size": (0, "x", 10**12),
    "n_positions": (0, 1e3),
    "n_embd": (-32, 33),
    "n_head": (0, 5),
    "n_inner": (0, -4, 2.5, "x"),
    "activation_function": ("gelu_newer", "", 3, ["relu"]),
    "layer_norm_epsilon": (-1e-5, "small", [], float("nan")),
    "initializer_range": (-0.1, "x"),
    "embd_pdrop": (1.0, -0.1, "x"),
    "attn_pdrop": (2,),
    "resid_pdrop": (1.5,),
    "scale_attn_weights": ("no", 0.5),
    "scale_attn_by_inverse_layer_idx": ("yes",),
}


@pytest.mark.parametrize(("field", "value"), [(name, value) for name, values in IMPOSSIBLE.items() for value in values])
def test_impossible_values(field: str, value: Any, folder: Path) -> None:
    configure(folder, **{field: value})
    message = refusal(folder)
    assert "config.json" in message
    assert field in message
    assert str(value) in message
