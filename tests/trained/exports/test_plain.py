"""Plain exports: the padding id, and the class names in config.json."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from support.exported_runs import TEXTS, Made
from support.small_experiments import BODY
from transformers import AutoTokenizer, GPT2ForSequenceClassification

from flax_agnews import load_base
from flax_agnews.config import ModelConfig
from flax_agnews.data.tokens import load_tokenizer
from flax_agnews.trained import exports
from flax_agnews.trained.loading import LoadedRun


def test_padding_takes_an_id_that_the_model_has_left(full: Made, parts: LoadedRun, tmp_path: Path) -> None:
    """Where the vocabulary is full, it grows by one row. The tokenizer here is of another kind, too."""
    assert load_base(ModelConfig(name=str(full.folder))).config.vocab_size == BODY["vocab_size"] + 1
    other = replace(parts, tokenizer=_other_tokenizer(parts, tmp_path / "tokenizer"))
    (tmp_path / "hf").mkdir()
    exports.hf.write(other, tmp_path / "hf")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["vocab_size"], config["pad_token_id"]) == (BODY["vocab_size"], BODY["vocab_size"] - 1)
    ids = AutoTokenizer.from_pretrained(tmp_path / "hf")(TEXTS, truncation=True)["input_ids"]
    tokens = other.tokenizer.encode(TEXTS, other.max_length)
    assert ids == [tokens[place].tolist() for place in range(len(TEXTS))]
    assert ids != AutoTokenizer.from_pretrained(full.folder)(TEXTS, truncation=True)["input_ids"]


def _other_tokenizer(parts: LoadedRun, folder: Path) -> Any:
    """The run's without its last entry, and with a space before every text."""
    parts.tokenizer.save(folder)
    ids = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps({name: id for name, id in ids.items() if id < len(ids) - 1}))
    lines = (folder / "merges.txt").read_text().splitlines()
    (folder / "merges.txt").write_text("\n".join(lines[:-1]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_prefix_space": True}))
    return load_tokenizer(str(folder))


def test_config_says_what_the_classes_are(full: Made, parts: LoadedRun) -> None:
    config = GPT2ForSequenceClassification.from_pretrained(full.folder).config
    assert config.id2label == dict(enumerate(parts.classes))
    assert config.label2id == {name: number for number, name in enumerate(parts.classes)}
    assert config.num_labels == len(parts.classes)
    assert config.architectures == ["GPT2ForSequenceClassification"]
    assert config.pad_token_id == AutoTokenizer.from_pretrained(full.folder).pad_token_id
