"""Mistakes in data, weights, tokenizer, network or output folder are one line that helps, with exit code 2."""

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from support.hub_standin import make_gpt2_repository
from support.main_refusals import Refusal, refusal

from flax_agnews.config import Config
from flax_agnews.data import builtin

__all__ = ["refusal"]  # fixtures


def _rows(count: int = 40) -> str:
    return "text,label\n" + "".join(f"text number {row},{row % 4}\n" for row in range(count))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A good data set; tests spoil it."""
    folder = tmp_path / "data"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(_rows())
    return folder


@pytest.mark.parametrize(
    ("spoil", "tells"),
    [
        (lambda rows: None, "--data.train_split train: "),
        (lambda rows: "", "train.csv is empty"),
        (lambda rows: "text,label\n", "train.csv has no rows"),
        (lambda rows: rows + "ragged,1,2\n", "train.csv line 42: has 3 fields, but the header has 2"),
        (lambda rows: rows + "short\n", "train.csv line 42: has 1 fields, but the header has 2"),
        (lambda rows: rows + '"open,1\n', "train.csv line 42: broken CSV"),
        (lambda rows: rows + "a,1.5\n", "train.csv line 42: label 1.5: is a regression meant?"),
        (lambda rows: rows + "a,\n", "train.csv line 42: the label is missing"),
        (lambda rows: rows.replace("text,label", "body,topic"), "train.csv has the columns body, topic"),
    ],
)
def test_a_spoiled_training_file(refusal: Refusal, data: Path, spoil: Callable[[str], str | None], tells: str) -> None:
    content = spoil(_rows())
    if content is None:
        (data / "train.csv").unlink()
    else:
        (data / "train.csv").write_text(content)
    assert tells in refusal("--data.source", data)


def test_a_test_label_outside_the_training_classes(refusal: Refusal, data: Path) -> None:
    (data / "test.csv").write_text(_rows() + "a,4\n")
    assert "test.csv line 42: label 4 is no class. Classes: 0 to 3" in refusal("--data.source", data)


def test_wrong_columns_name_those_that_are_there(refusal: Refusal, data: Path) -> None:
    columns = f"{data / 'train.csv'} has the columns text, label"
    assert refusal("--data.source", data, "--data.text_column", "body") == f"--data.text_column body: {columns}"
    assert refusal("--data.source", data, "--data.label_column", "y") == f"--data.label_column y: {columns}"


def test_a_missing_data_folder(refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    assert refusal("--data.source", path) == f"--data.source {path}: no such file or folder"


FROM_HUB = ("--model.from_config", "null", "--model.name")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A good tiny GPT-2; tests spoil it."""
    return make_gpt2_repository(tmp_path / "gpt2", builtin.load(Config().data).splits["train"].texts[:200])


def _edit(model: Path, change: Callable[[dict[str, np.ndarray]], Mapping[str, np.ndarray]]) -> None:
    save_file(dict(change(load_file(model / "model.safetensors"))), model / "model.safetensors")


def test_missing_weights_are_all_listed(refusal: Refusal, model: Path) -> None:
    gone = ["h.0.ln_1.bias", "h.1.attn.c_attn.weight", "ln_f.weight", "wpe.weight"]
    _edit(model, lambda tensors: {key: value for key, value in tensors.items() if key not in gone})
    message = refusal(*FROM_HUB, model)
    assert str(model) in message
    assert "model.safetensors lacks" in message
    assert all(key in message for key in gone)


def test_weights_of_another_shape_are_all_listed(refusal: Refusal, model: Path) -> None:
    wrong = ["h.0.mlp.c_fc.weight", "h.1.ln_2.bias"]
    _edit(model, lambda tensors: tensors | {key: np.zeros(tensors[key].size + 1, np.float32) for key in wrong})
    message = refusal(*FROM_HUB, model)
    assert all(key in message for key in wrong)
    assert "[4097]" in message  # 32 x 128 and one more
    assert "[32, 128]" in message


@pytest.mark.parametrize("keep", [0, 4, 2000, -1])
def test_truncated_weights(refusal: Refusal, model: Path, keep: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    message = refusal(*FROM_HUB, model)
    assert message.startswith(f"{model}: model.safetensors is truncated or damaged")


def test_a_header_that_promises_more_than_there_is(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    assert "truncated or damaged" in refusal(*FROM_HUB, model)


def test_a_model_folder_without_its_files(refusal: Refusal, model: Path) -> None:
    (model / "model.safetensors").unlink()
    assert "has neither model.safetensors nor flax_model.msgpack" in refusal(*FROM_HUB, model)
    (model / "config.json").write_text("{")
    assert "config.json is not JSON" in refusal(*FROM_HUB, model)
    (model / "config.json").unlink()
    assert "has no config.json" in refusal(*FROM_HUB, model)
    assert "no such directory" in refusal(*FROM_HUB, model / "none", "--model.tokenizer", model)


def test_a_tokenizer_with_ids_beyond_the_vocabulary(refusal: Refusal, model: Path) -> None:
    size = json.loads((model / "config.json").read_text())["vocab_size"]
    message = refusal("--model.from_config.vocab_size", size - 1, "--model.tokenizer", model)
    assert f"ids up to {size - 1}" in message
    assert f"only {size - 1} entries" in message


def test_a_tokenizer_folder_without_a_tokenizer(refusal: Refusal, tmp_path: Path) -> None:
    assert "neither vocab.json nor tokenizer.json" in refusal("--model.tokenizer", tmp_path)


def test_texts_longer_than_the_positions(refusal: Refusal) -> None:
    """64 positions, as the small body has; the prompt needs some of them."""
    assert "at most 64 " in refusal("--strategy", "full", "--data.max_length", 65)
    assert "at most 60 " in refusal("--strategy", "prompt", "--data.max_length", 61, "--prompt.tokens", 4)


@pytest.mark.parametrize(
    "flags",
    [
        ("--data.source", "fancyzhx/ag_news"),
        ("--model.from_config", "null"),
        ("--model.from_config", "null", "--model.name", "nobody/nothing"),
        ("--model.tokenizer", "gpt2"),
        ("--model.tokenizer", "nobody/nothing"),
    ],
)
def test_what_is_only_on_the_hub_says_how_to_do_without(refusal: Refusal, flags: tuple[str, ...]) -> None:
    message = refusal(*flags)
    assert (flags[-1] if flags[-1] != "null" else "gpt2") in message
    assert "the hub can't be reached" in message
    assert "Offline: --" in message
    assert message.endswith("or unset HF_HUB_OFFLINE, which keeps it from being asked")
    assert "configs/" not in message  # an installed package has none


def test_an_output_that_is_a_file_or_cannot_be_made(refusal: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("mine")
    for output in (path, path / "below"):
        message = refusal(output=output)
        assert message.startswith(f"--output {path}")
    assert path.read_text() == "mine"
