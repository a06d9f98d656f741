"""Special tokens in texts are plain text or tokens, as in `transformers`, from training to the export."""

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support.bounds import BOUNDS
from support.small_experiments import BODY, results, small
from transformers import AddedToken, AutoTokenizer, GPT2ForSequenceClassification, GPT2Tokenizer

from flax_agnews import Classifier, export_run
from flax_agnews.config import DataConfig
from flax_agnews.data.encoded import encode_corpus
from flax_agnews.data.sources import Corpus, Texts, load_corpus
from flax_agnews.data.tokens import Ragged, Tokenizer, encode_cached, load_tokenizer, train_tokenizer
from flax_agnews.main import main
from flax_agnews.trained import exports
from flax_agnews.trained.loading import load_run

READINGS = ("text", "tokens")
WORDS = load_corpus(DataConfig(source="builtin", limit_train=120)).train
SPECIAL = ("<|endoftext|>", "<user>", "<|pad|>", "[stripped]")
ADDED = ("newword", "[Alone]")
PIECES = [*SPECIAL, *ADDED, " ", "a", "<", "user>", "word", "|>", "é", "\n"]
TEXTS = [
    "<user>",
    "<user> hi <user><|pad|>",
    "news<|endoftext|>",
    "  <|pad|>",
    "a newword",
    "x[Alone] [Alone]",
    "plain",
]


@pytest.fixture(scope="session")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer's folder, saved by `transformers`, with special tokens of its own and other added tokens."""
    plain, folder = tmp_path_factory.mktemp("plain"), tmp_path_factory.mktemp("body")
    train_tokenizer(WORDS.strings, BODY["vocab_size"] - len(SPECIAL) - len(ADDED) + 1).save(plain)
    tokenizer = GPT2Tokenizer.from_pretrained(plain)
    stripped = AddedToken("[stripped]", lstrip=True, rstrip=True, special=True)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<user>", stripped], "pad_token": "<|pad|>"})
    tokenizer.add_tokens(["newword", AddedToken("[Alone]", single_word=True)])
    tokenizer.save_pretrained(folder)
    assert len(tokenizer) == BODY["vocab_size"]
    return folder


@pytest.fixture(scope="session")
def theirs(body: Path) -> Any:
    return AutoTokenizer.from_pretrained(body)


@pytest.fixture(scope="session")
def ours(body: Path) -> dict[str, Tokenizer]:
    return {reading: load_tokenizer(str(body), reading) for reading in READINGS}


def rows(ragged: Ragged) -> list[list[int]]:
    return [ragged[place].tolist() for place in range(len(ragged))]


def reference(theirs: Any, texts: Sequence[str], reading: str) -> list[list[int]]:
    """Ids of `transformers`; without its argument it reads as `tokens`, and an empty text is nothing there."""
    how = {"split_special_tokens": True} if reading == "text" else {}
    return [ids or [theirs.eos_token_id] for ids in theirs(list(texts), **how)["input_ids"]]


# --- ids


@pytest.mark.parametrize("reading", READINGS)
@given(texts=st.lists(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), min_size=1, max_size=5))
def test_every_id_is_the_one_of_transformers(
    ours: dict[str, Tokenizer], theirs: Any, reading: str, texts: list[str]
) -> None:
    expected = reference(theirs, texts, reading)
    assert rows(ours[reading].encode(texts, 1000)) == expected
    pairs = list(zip(texts, reversed(texts), strict=True))
    halves = [
        [] if ids == [theirs.eos_token_id] and not text else ids for text, ids in zip(texts, expected, strict=True)
    ]
    joined = [[*a, theirs.eos_token_id, *b] for a, b in zip(halves, reversed(halves), strict=True)]
    assert rows(ours[reading].encode(pairs, 1000)) == joined


def test_no_text_can_forge_a_special_token_unless_asked_for(ours: dict[str, Tokenizer], theirs: Any) -> None:
    special = set(theirs.convert_tokens_to_ids(list(SPECIAL)))
    for text in (*SPECIAL, "".join(SPECIAL), "<user>" * 3):
        assert not special & set(ours["text"].encode([text], 100).ids.tolist())
        assert special >= set(ours["tokens"].encode([text], 100).ids.tolist())


def test_other_added_tokens_are_tokens_in_both(ours: dict[str, Tokenizer], theirs: Any) -> None:
    for name in ADDED:
        number = theirs.convert_tokens_to_ids(name)
        assert [rows(tokenizer.encode([name], 9)) for tokenizer in ours.values()] == [[[number]]] * 2


def test_the_cache_keeps_both_readings_apart(
    ours: dict[str, Tokenizer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path))
    for _ in range(2):
        for tokenizer in ours.values():
            assert rows(encode_cached(tokenizer, TEXTS, 50)) == rows(tokenizer.encode(TEXTS, 50))
    assert len(list((tmp_path / "tokens").iterdir())) == 2


# --- the line about the data


def _corpus(texts: Sequence[Any]) -> Corpus:
    some = Texts(list(texts), np.zeros(len(texts), np.int32))
    return Corpus("c", ["a"], some, some.first(2), some.first(1), ("read as it was",))


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=4).map("".join), min_size=1, max_size=8), st.booleans())
def test_texts_with_special_tokens_are_counted(ours: dict[str, Tokenizer], texts: list[str], paired: bool) -> None:
    some: list[Any] = [(text, "b") if number % 2 else ("b", text) for number, text in enumerate(texts)]
    split = texts + texts[:2] + texts[:1]
    count = sum(any(name in text for name in SPECIAL) for text in split)
    for reading, how in (("text", "split as text"), ("tokens", "read as tokens")):
        first, *more = encode_corpus(_corpus(some if paired else texts), ours[reading], 20).notes
        assert first == "read as it was"
        assert len(more) == bool(count)
        for note in more:
            names = ", ".join(sorted(name for name in SPECIAL if any(name in text for text in texts)))
            contain = "text contains" if count == 1 else "texts contain"
            assert note == f"{count} {contain} special tokens ({names}), {how} (--data.special_tokens)"


# --- a run, and what is made of it


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """News in CSV files; every second text has a special token, or more."""
    folder = tmp_path_factory.mktemp("source")
    for split in ("train", "test"):
        with (folder / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "label"])
            for number, (text, label) in enumerate(zip(WORDS.texts, WORDS.labels, strict=True)):
                mark = SPECIAL[number // 2 % 3] if number % 2 else ""
                writer.writerow([f"{mark}{text[:40]}{mark}", label])
    return folder


def _flags(output: Path, source: Path, body: Path, reading: str | None, *more: object) -> list[str]:
    steep = ("--model.from_config", json.dumps({**BODY, "initializer_range": 0.3}), "--lora.learning_rate", 0.03)
    setting = () if reading is None else ("--data.special_tokens", reading)
    what = ("--strategy", "lora", "--train.runs", 1, "--train.epochs", 1, "--pretrain.epochs", 1)
    return small(output, *steep, "--data.source", source, "--model.tokenizer", body, *what, *setting, *more)


@pytest.fixture(scope="module")
def outputs(source: Path, body: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Finished experiments by reading; `text` is the default."""
    found = {}
    for reading in READINGS:
        found[reading] = tmp_path_factory.mktemp(reading) / "out"
        assert main(_flags(found[reading], source, body, None if reading == "text" else reading)) == 0
    return found


def test_language_modelling_reads_the_same_tokens(outputs: dict[str, Path]) -> None:
    """Only its texts differ between the two, and only in special tokens."""
    bodies = [load_file(outputs[reading] / "base" / "model.safetensors") for reading in READINGS]
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(bodies[0].values(), bodies[1].values(), strict=True))


@pytest.mark.parametrize("reading", READINGS)
def test_predictions_and_exports_follow_the_run(
    outputs: dict[str, Path], theirs: Any, tmp_path: Path, reading: str
) -> None:
    """PyTorch on `transformers`' ids, alone and padded; a text that ends in the body's own padding token as well."""
    run, folder = outputs[reading] / "lora" / "seed-42", tmp_path / "hf"
    export_run(run, "hf", folder)
    model = GPT2ForSequenceClassification.from_pretrained(folder).eval()
    exported = AutoTokenizer.from_pretrained(folder)
    ids = reference(theirs, TEXTS, reading)
    assert exported(TEXTS, truncation=True)["input_ids"] == ids
    predicted = Classifier.load(run).predict(TEXTS).logits
    with torch.no_grad():
        alone = torch.cat([model(torch.tensor([row])).logits for row in ids]).numpy()
        padded = model(**exported(TEXTS, padding=True, truncation=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(predicted, alone, rtol=0, atol=BOUNDS["hugging_face"])
    np.testing.assert_allclose(predicted, padded, rtol=0, atol=BOUNDS["hugging_face"])
    other = reference(theirs, TEXTS, READINGS[1 - READINGS.index(reading)])
    with torch.no_grad():
        wrong = torch.cat([model(torch.tensor([row])).logits for row in other]).numpy()
    assert np.abs(wrong - predicted).max() > 1e-2  # or the reading would not matter here
    card = (folder / "README.md").read_text()
    assert ("the tokens that they are" in card, "are read as plain text" in card) == (
        reading == "tokens",
        reading == "text",
    )
    assert f"special_tokens: {reading}\n" in card


def test_padding_is_no_token_that_a_text_can_get(outputs: dict[str, Path], tmp_path: Path) -> None:
    """Here the body has the usual name as a token that was added and isn't special."""
    parts = load_run(outputs["text"])
    parts.tokenizer.save(tmp_path / "plain")
    tokenizer = GPT2Tokenizer.from_pretrained(tmp_path / "plain")
    tokenizer.add_tokens(["<|pad|>"])
    tokenizer.save_pretrained(tmp_path / "body")
    (tmp_path / "hf").mkdir()
    exports.hf.write(replace(parts, tokenizer=load_tokenizer(str(tmp_path / "body"))), tmp_path / "hf")
    exported = AutoTokenizer.from_pretrained(tmp_path / "hf")
    assert exported(["a <|pad|>"])["input_ids"] == tokenizer(["a <|pad|>"])["input_ids"]
    assert exported.pad_token_id not in exported("<|pad|>" + exported.pad_token)["input_ids"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize("reading", READINGS)
def test_the_card_of_an_adapter_reads_them_alike(
    outputs: dict[str, Path], body: Path, tmp_path: Path, reading: str
) -> None:
    run, folder = outputs[reading] / "lora" / "seed-42", tmp_path / "peft"
    export_run(run, "peft", folder)
    whole = tmp_path / "body"
    shutil.copytree(outputs[reading] / "base", whole)
    shutil.copytree(body, whole, dirs_exist_ok=True)
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    for name, value in (('"BODY"', whole), ('"DIR"', folder), ('"A text."', TEXTS[1])):
        code = code.replace(name, repr(str(value)))
    scope: dict[str, Any] = {}
    exec(code, scope)
    predicted = Classifier.load(run).predict([TEXTS[1]]).logits
    np.testing.assert_allclose(scope["logits"].detach().numpy(), predicted, rtol=0, atol=BOUNDS["hugging_face"])


def test_another_reading_is_refused_in_a_used_folder(
    outputs: dict[str, Path], source: Path, body: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for reading, other in (READINGS, READINGS[::-1]):
        before = (outputs[reading] / "config.yaml").read_bytes()
        assert main(_flags(outputs[reading], source, body, other)) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert f"data.special_tokens was {reading}, now {other}" in line
        assert (outputs[reading] / "config.yaml").read_bytes() == before


def test_a_run_from_before_the_setting_reads_text(
    outputs: dict[str, Path], source: Path, body: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = Path(shutil.copytree(outputs["text"], tmp_path / "out"))
    settings = yaml.safe_load((output / "config.yaml").read_text())
    del settings["data"]["special_tokens"]
    (output / "config.yaml").write_text(yaml.safe_dump(settings))
    found, expected = (Classifier.load(folder).predict(TEXTS).logits for folder in (output, outputs["text"]))
    np.testing.assert_array_equal(found, expected)
    assert main(_flags(output, source, body, "tokens")) == 2
    assert "data.special_tokens was text, now tokens" in capsys.readouterr().err
    assert main(_flags(output, source, body, None)) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 of 1 runs were done before" in told
    assert "special tokens (<user>, <|endoftext|>, <|pad|>), split as text (--data.special_tokens)" in told
    assert results(output)["runs"] == results(outputs["text"])["runs"]
