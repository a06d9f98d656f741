"""The script that makes the body of the package: its stories are nobody's test texts, and it gives the same again."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2LMHeadModel, GPT2Tokenizer

from benchmarks import make_builtin
from benchmarks.make_builtin import MOST_BYTES, SMOKE, Settings, main, page, stories
from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.models.pretrained import load_base
from flax_agnews.system.model_names import BUILTIN_FOLDER


@pytest.fixture(scope="module")
def users_texts() -> set[Any]:
    """Every text of the data source that users get."""
    corpus = load_corpus(DataConfig(source="builtin"))
    return {text for part in (corpus.train, corpus.validation, corpus.test) for text in part.texts}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "body"
    main(["--smoke", "--folder", str(folder)])
    return folder


def test_stories_are_apart_from_the_data_source_and_from_each_other(users_texts: set[Any]) -> None:
    train, held_out = stories(SMOKE)
    assert (len(train), len(held_out)) == (SMOKE.texts, SMOKE.held_out)
    assert len({*train, *held_out}) == SMOKE.texts + SMOKE.held_out
    assert not users_texts & {*train, *held_out}


def test_a_story_of_the_data_source_is_left_out(users_texts: set[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The generator is made to write users' stories among the others."""
    true, users = make_builtin.builtin.generate, sorted(users_texts)

    def generate(rows: int, **how: Any) -> tuple[list[str], list[int]]:
        texts, labels = true(rows, **how)
        return (texts[:50] + users[:50] + texts[50:-50], labels) if how else (texts, labels)

    monkeypatch.setattr(make_builtin.builtin, "generate", generate)
    train, held_out = stories(SMOKE)
    assert not users_texts & {*train, *held_out}
    assert len({*train, *held_out}) == SMOKE.texts + SMOKE.held_out


def test_the_same_settings_make_the_same_body(made: Path, tmp_path: Path) -> None:
    main(["--smoke", "--folder", str(tmp_path)])
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / name).read_bytes() == (made / name).read_bytes()


def test_the_record_is_true(made: Path) -> None:
    record = json.loads((made / "made.json").read_text())
    assert record["weights_sha256"] == load_base(ModelConfig(name=str(made))).hash
    assert record["uniform_loss"] == pytest.approx(math.log(SMOKE.vocabulary), abs=1e-4)
    assert record["held_out_loss"] < record["uniform_loss"] - 0.5
    assert record["settings"] == SMOKE.__dict__
    assert record["held_out_loss"] == pytest.approx(language_loss(made, stories(SMOKE)[1]), abs=1e-3)
    text = page(record, made)
    assert all(f"| {file.name} | {file.stat().st_size:,} |" in text for file in made.iterdir())


def test_it_takes_no_place_by_accident(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--smoke"])
    assert "--smoke needs --folder" in capsys.readouterr().err


def language_loss(folder: Path, texts: Sequence[str]) -> float:
    """PyTorch's own shifted loss, each text alone and end-of-text behind it, in nats a token."""
    model = GPT2LMHeadModel.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = GPT2Tokenizer.from_pretrained(folder)
    total, tokens = 0.0, 0
    for text in texts:
        ids = torch.tensor([[*tokenizer.encode(text), tokenizer.eos_token_id]])
        with torch.no_grad():
            mean = model(ids, labels=ids).loss.item()
        total, tokens = total + mean * (ids.shape[1] - 1), tokens + ids.shape[1] - 1
    return total / tokens


# What comes with the package


def test_the_packages_body_is_small_and_as_its_record_says() -> None:
    record = json.loads((BUILTIN_FOLDER / "made.json").read_text())
    assert sum(file.stat().st_size for file in BUILTIN_FOLDER.iterdir()) <= MOST_BYTES
    assert record["settings"] == Settings().__dict__
    assert record["weights_sha256"] == load_base(ModelConfig(name="builtin")).hash


def test_the_packages_body_knows_the_corpus() -> None:
    """Stories that it wasn't trained on: those of the record, and users' test texts alike."""
    record = json.loads((BUILTIN_FOLDER / "made.json").read_text())
    texts = load_corpus(DataConfig(source="builtin", limit_test=200)).test.texts
    found = language_loss(BUILTIN_FOLDER, [str(text) for text in texts])
    assert found == pytest.approx(record["held_out_loss"], abs=0.05)  # 200 texts of some 30 tokens
    assert found < record["uniform_loss"] / 3
