"""Loading a run: damaged weights, another body, tokenizer or settings are refused in one line."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file, save_file
from support.small_experiments import settings
from support.trained_runs import FULL, MINE, PROMPT, TEXTS, loading_refusal

import flax_agnews
from flax_agnews.models.compute import FLOAT32
from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.loading import load_run


@pytest.mark.parametrize("run", [FULL, PROMPT])  # with the body's weights in its own, and without
def test_exactly_is_float32_in_products_too(trained: Path, run: str) -> None:
    for exact in (load_run(trained / run, exact=True), load_run(trained / run).exact()):
        assert exact.model.compute == replace(FLOAT32, precision="highest")


def test_weights_that_were_not_kept(copied: Path) -> None:
    shutil.rmtree(copied / FULL / "checkpoints")
    message = loading_refusal(copied / FULL)
    assert message.startswith(f"{copied / FULL}: its weights were not kept (--checkpoint.keep_best")
    assert message.endswith("kept: mine/seed-42, prompt/seed-42")


@pytest.mark.parametrize("kind", ["arrays", "state.json"])
def test_damaged_weights(copied: Path, kind: str) -> None:
    [best] = (copied / FULL / "checkpoints").glob("best-epoch-*")
    path = max(
        (p for p in (best / kind).rglob("*") if p.is_file()), key=lambda p: p.stat().st_size, default=best / kind
    )
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert "the weights are damaged" in loading_refusal(copied / FULL)


def test_weights_without_class_names(copied: Path) -> None:
    [best] = (copied / FULL / "checkpoints").glob("best-epoch-*")
    state = json.loads((best / "state.json").read_text())
    (best / "state.json").write_text(json.dumps({**state, "notes": {}}))
    assert "older than the names of their classes" in loading_refusal(copied / FULL)


def test_another_body(copied: Path) -> None:
    path = copied / "base" / "model.safetensors"
    tensors = load_file(path)
    tensors["ln_f.bias"] = tensors["ln_f.bias"] + 1e-3
    save_file(tensors, path, metadata={"format": "pt"})
    where = f"{copied / PROMPT}: was trained from other weights than {path.parent} has"
    assert loading_refusal(copied / PROMPT).startswith(where)
    assert loading_refusal(copied / PROMPT, model=copied / "base").startswith(where)


def test_no_body(copied: Path) -> None:
    shutil.rmtree(copied / "base")
    message = loading_refusal(copied / PROMPT)
    assert message.startswith(f"{copied / PROMPT}: its body or tokenizer can't be loaded: ")
    assert str(copied / "base") in message
    assert message.endswith("Give the same body: --model.name DIR (in Python: model=DIR)")


def test_a_body_that_has_moved_is_given(copied: Path, prompt: Classifier) -> None:
    (copied / "base").rename(copied / "moved")
    moved = Classifier.load(copied / PROMPT, model=copied / "moved")
    np.testing.assert_array_equal(moved.predict(TEXTS).logits, prompt.predict(TEXTS).logits)


def test_a_run_that_trained_everything_needs_no_body(copied: Path, full: Classifier) -> None:
    shutil.rmtree(copied / "base")
    np.testing.assert_array_equal(Classifier.load(copied / FULL).predict(TEXTS).logits, full.predict(TEXTS).logits)
    [best] = (copied / FULL / "checkpoints").glob("best-epoch-*")
    state = json.loads((best / "state.json").read_text())
    del state["notes"]["body"]  # as in runs that were made before it was kept
    (best / "state.json").write_text(json.dumps(state))
    assert "its body or tokenizer can't be loaded: " in loading_refusal(copied / FULL)


def test_another_tokenizer(copied: Path) -> None:
    path = copied / "tokenizer" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    first, second = list(vocabulary)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    path.write_text(json.dumps(vocabulary))
    assert "was trained with another tokenizer" in loading_refusal(copied / FULL)


@pytest.mark.parametrize(
    ("section", "changed", "tells"),
    [
        ("prompt", {"tokens": 5}, "was trained by another prompt: its labels, settings"),
        ("prompt", {"depth": 5}, "the settings of prompt are of another version"),
        (
            "prompt",
            {"tokens": "4"},
            "the settings of prompt are of another version of this program (tokens can't be '4')",
        ),
        ("train", {"epoch": 5}, "config.yaml: is of another version of this program"),
        (
            "model",
            {"dtype": "float16"},
            "config.yaml: is of another version of this program (dtype can't be 'float16')",
        ),
        ("model", {"name": None}, "config.yaml: is of another version of this program (name can't be None)"),
        ("train", {"clip_norm": -1.0}, "--train.clip_norm -1.0: must be above 0"),
    ],
)
def test_other_settings(copied: Path, section: str, changed: dict[str, Any], tells: str) -> None:
    config = settings(copied)
    config[section] |= changed
    (copied / "config.yaml").write_text(yaml.safe_dump(config))
    assert tells in loading_refusal(copied / PROMPT)


def test_another_strategy_of_ones_own(trained: Path) -> None:
    other = flax_agnews.Strategy.by_pattern("mine", {r"^(score|transformer/ln_f)/": "frozen", r".*": "frozen"})
    assert "strategy mine: every parameter is frozen" in loading_refusal(trained / MINE, strategy=other)
    entry = flax_agnews.REGISTRY["full"]
    assert "was trained by another full" in loading_refusal(trained / MINE, strategy=entry)
