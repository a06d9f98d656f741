"""A trained vocabulary is read from the cache, byte for byte as it would be trained, or else trained."""

import json
from pathlib import Path

import pytest

from flax_agnews.data import vocabularies
from flax_agnews.data.tokens import load_tokenizer, train_tokenizer
from flax_agnews.data.vocabularies import write_vocabulary
from flax_agnews.system.caches import entries, folder_of

TEXTS = ["the cat sat on the mat", "a Zoë, naïve \r\n café 漢字", "the dog sat"] * 3


@pytest.fixture
def trainings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of vocabularies that were trained, with an empty cache."""
    done: list[int] = []
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(
        vocabularies, "train_tokenizer", lambda texts, size: (done.append(size), train_tokenizer(texts, size))[1]
    )
    return done


def written(folder: Path, size: int = 290, texts: list[str] = TEXTS) -> dict[str, bytes]:
    folder.mkdir(exist_ok=True)
    write_vocabulary(texts, size, folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_read_is_what_was_trained(trainings: list[int], tmp_path: Path) -> None:
    (direct := tmp_path / "direct").mkdir()
    train_tokenizer(TEXTS, 290).save(direct)
    expected = {path.name: path.read_bytes() for path in direct.iterdir()}
    assert written(tmp_path / "one") == written(tmp_path / "two") == expected
    assert trainings == [290]
    assert load_tokenizer(str(tmp_path / "two")).encode(TEXTS, 99).ids.tolist() == (
        load_tokenizer(str(direct)).encode(TEXTS, 99).ids.tolist()
    )


def test_other_texts_and_sizes_have_their_own(trainings: list[int], tmp_path: Path) -> None:
    first = written(tmp_path / "one")
    assert written(tmp_path / "two", 280) != first
    assert written(tmp_path / "three", 290, TEXTS[:-1]) == written(tmp_path / "four", 290, TEXTS[:-1])
    assert trainings == [290, 280, 290]
    assert len(entries(folder_of("vocabularies"))) == 3


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "null",
        '{"files": {"vocab.json": 1, "merges.txt": 2}, "sha256": "0"}',
        '{"files": ["vocab.json"], "sha256": "0"}',
    ],
)
def test_a_damaged_file_is_made_anew(content: str, trainings: list[int], tmp_path: Path) -> None:
    whole = written(tmp_path / "one")
    [entry] = entries(folder_of("vocabularies"))
    before = entry.path.read_bytes()
    entry.path.write_text(content)
    assert written(tmp_path / "two") == whole
    assert entry.path.read_bytes() == before
    described = json.loads(before)
    described["files"]["merges.txt"] += "a b\n"
    entry.path.write_text(json.dumps(described))
    assert written(tmp_path / "three") == whole
    assert trainings == [290] * 3


def test_only_the_two_files_are_written(trainings: list[int], tmp_path: Path) -> None:
    whole = written(tmp_path / "one")
    [entry] = entries(folder_of("vocabularies"))
    described = json.loads(entry.path.read_text())
    described["files"]["../more"] = "text"
    entry.path.write_text(json.dumps(described))
    assert written(tmp_path / "two") == whole
    assert not (tmp_path / "more").exists()
