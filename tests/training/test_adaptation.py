"""The key of a body adapted by language modelling changes with everything that changes its numbers."""

import hashlib
import json
from typing import Any

import pytest
from support.adapted_bodies import corpus, texts, tokenizer
from support.tiny import devices, random_base

from flax_agnews.config import ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.encoded import Split
from flax_agnews.training.adaptation import AdaptationTask

__all__ = ["corpus", "texts", "tokenizer"]  # fixtures

_BASE, _CONFIG = random_base(), PretrainConfig(epochs=2)


def _key(texts: Split, shared: TrainConfig, config: PretrainConfig = _CONFIG, **model: Any) -> str:
    """The key of an adaptation on one device, as an experiment asks for it."""
    return AdaptationTask(_BASE, texts, 3, config, ModelConfig(**model), shared, devices(), seed=7).key


def test_the_key_of_default_settings_is_the_one_of_before(texts: Split) -> None:
    """Written out: bodies that were kept before `train` counted are found by it."""
    facts = [{"epochs": 2, "learning_rate": 5e-4, "batch_size": 32}, "float32", None, 3, 7, _BASE.hash]
    content = json.dumps(facts, sort_keys=True).encode() + texts.tokens.ids.tobytes() + texts.tokens.offsets.tobytes()
    assert _key(texts, TrainConfig()) == hashlib.sha256(content).hexdigest()


def test_bodies_of_other_types_and_precisions_are_others(texts: Split) -> None:
    kinds = ({}, {"dtype": "bfloat16"}, {"precision": "high"}, {"precision": "highest"})
    assert len({_key(texts, TrainConfig(), **kind) for kind in kinds}) == len(kinds)


@pytest.mark.parametrize(
    ("shared", "other"),
    [
        ({"micro_batch_tokens": 200}, True),
        ({"shapes": 1}, True),
        ({"shapes": 6}, False),  # the default of earlier versions: language modelling has two, as it has by `auto`
        ({"micro_batch_tokens": 8192, "shapes": 4}, False),  # no batch is split or padded otherwise
        ({"weight_decay": 0.5, "schedule": "linear", "clip_norm": 3.0, "label_smoothing": 0.1}, False),
        ({"epochs": 9, "batch_size": 5, "class_weights": "balanced", "early_stopping": 1}, False),
    ],
    ids=str,
)
def test_the_key_sees_what_changes_numbers(texts: Split, shared: dict[str, Any], other: bool) -> None:
    assert (_key(texts, TrainConfig(**shared)) != _key(texts, TrainConfig())) == other
