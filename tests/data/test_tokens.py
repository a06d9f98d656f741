"""Texts become GPT-2's token ids, cut and counted; the cache of ids gives them again, and mends damaged files."""

import csv
import errno
import io
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing
from transformers import GPT2Tokenizer

from flax_agnews.data import tokens
from flax_agnews.data.tokens import Ragged, Tokenizer, check_vocabulary, encode_cached, load_tokenizer, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.system import files
from flax_agnews.system.environment import cache_folder

# Ids in GPT-2's published vocabulary.
HELLO_WORLD = [15496, 995, 0]
END = 50256
END_AS_TEXT = [27, 91, 437, 1659, 5239, 91, 29]  # "<", "|", "end", "of", "text", "|", ">"

TEXTS = [
    "Wall St. Bears Claw Back Into the Black (Reuters)",
    "  two spaces, a\ttab\nand  a line\r\n",
    "naïve café, Zürich; 日本語 \N{ROCKET}\N{ZERO WIDTH JOINER}",
    "it's they're we'll I'd #39; &lt;b&gt;",
    "\x00\x7f\ufeff\ufffd",
    "3.14159 1,000,000 2004-11-23",
    "one <|endoftext|> two",
    "",
]


@pytest.fixture(scope="session")
def gpt2(shared: Path) -> Tokenizer:
    return load_tokenizer(str(shared / "gpt2_tokenizer"))


@pytest.fixture(scope="session")
def trained() -> Tokenizer:
    """A small one, trained here."""
    return train_tokenizer([text * 3 for text in TEXTS], 300)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache; where the files of token ids will be."""
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path))
    return tmp_path / "tokens"


def rows(ragged: Ragged) -> list[list[int]]:
    return [list(map(int, ragged[i])) for i in range(len(ragged))]


def assert_equal(ours: Ragged, expected: Ragged) -> None:
    np.testing.assert_array_equal(ours.ids, expected.ids)
    np.testing.assert_array_equal(ours.offsets, expected.offsets)
    assert (ours.ids.dtype, ours.offsets.dtype) == (np.int32, np.int64)
    assert ours.truncated == expected.truncated


# Ids.


def test_known_ids(gpt2: Tokenizer) -> None:
    assert gpt2.end_of_text == END
    assert rows(gpt2.encode(["Hello world!", "<|endoftext|>", ""], 256)) == [HELLO_WORLD, END_AS_TEXT, [END]]


@pytest.mark.parametrize("name", ["gpt2_tokenizer", "mini_gpt2"])
def test_ids_are_transformers_ids(name: str, shared: Path) -> None:
    with (shared / "ag_news" / "test.csv").open(newline="") as file:
        texts = [row["text"] for row in itertools.islice(csv.DictReader(file), 2000)] + TEXTS
    ours = load_tokenizer(str(shared / name))
    theirs = GPT2Tokenizer.from_pretrained(shared / name)
    encoded = theirs(texts, split_special_tokens=True)["input_ids"]
    assert rows(ours.encode(texts, 1000)) == [ids or [theirs.eos_token_id] for ids in encoded]


def test_special_tokens_are_plain_text(trained: Tokenizer) -> None:
    ids = trained.encode(["one <|endoftext|> two"], 100).ids
    assert trained.end_of_text not in ids
    assert trained.backend.decode(list(ids)) == "one <|endoftext|> two"


def test_an_empty_text_is_end_of_text(trained: Tokenizer) -> None:
    assert rows(trained.encode(["", "a", ""], 5))[::2] == [[trained.end_of_text]] * 2


def test_no_texts(trained: Tokenizer) -> None:
    nothing = trained.encode([], 5)
    assert (len(nothing), len(nothing.ids), nothing.truncated) == (0, 0, 0)


def test_long_texts_are_cut_and_counted(trained: Tokenizer) -> None:
    whole = rows(trained.encode(TEXTS, 1000))
    lengths = sorted(map(len, whole))
    limit = lengths[len(lengths) // 2]  # one text has exactly as many: it is whole
    cut = trained.encode(TEXTS, limit)
    assert rows(cut) == [ids[:limit] for ids in whole]
    assert cut.truncated == sum(len(ids) > limit for ids in whole) > 0
    assert trained.encode(TEXTS, 1000).truncated == 0


@given(st.text(min_size=1))
def test_any_text_comes_back(trained: Tokenizer, text: str) -> None:
    ids = trained.encode([text], 10**6).ids
    assert len(ids) > 0
    assert ids.max() <= trained.largest_id
    assert trained.backend.decode(list(ids), skip_special_tokens=False) == text


@given(st.lists(st.text(max_size=20), max_size=6), st.integers(1, 5))
def test_a_text_has_the_ids_that_it_has_alone(trained: Tokenizer, texts: list[str], limit: int) -> None:
    together = trained.encode(texts, limit)
    assert rows(together) == [rows(trained.encode([text], limit))[0] for text in texts]
    assert together.lengths.tolist() == [len(row) for row in rows(together)]


# Pairs.


def separated(tokenizer: Tokenizer, most: int) -> Backend:
    """The same vocabulary, with end-of-text between two texts and cutting left to Hugging Face's library."""
    theirs = Backend.from_str(tokenizer.backend.to_str())
    theirs.encode_special_tokens = True
    end = tokens.END_OF_TEXT
    theirs.post_processor = TemplateProcessing(
        single="$A", pair=f"$A {end} $B", special_tokens=[(end, tokenizer.end_of_text)]
    )
    theirs.enable_truncation(most, strategy="longest_first")
    return theirs


@given(st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4), st.integers(3, 16))
@example([("", ""), ("a", ""), ("", "a"), ("<|endoftext|>", "<|endoftext|>")], 5)
def test_pairs_are_cut_as_hugging_face_cuts_them(trained: Tokenizer, texts: list[tuple[str, str]], most: int) -> None:
    ours, theirs = trained.encode(texts, most), separated(trained, most).encode_batch(texts)
    assert rows(ours) == [encoding.ids for encoding in theirs]
    assert ours.truncated == sum(bool(encoding.overflowing) for encoding in theirs)
    assert all(row.count(trained.end_of_text) == 1 for row in rows(ours))


def test_a_pairs_longer_text_is_cut_first(trained: Tokenizer) -> None:
    long, short, end = "\x00\x01\x02\x03\x04\x05\x06\x07", "\x10\x11", trained.end_of_text
    [a], [b] = rows(trained.encode([long], 99)), rows(trained.encode([short], 99))
    assert (len(a), len(b)) == (8, 2)
    assert rows(trained.encode([(long, short), (short, long), (long, long)], 8)) == [
        [*a[:5], end, *b],
        [*b, end, *a[:5]],
        [*a[:3], end, *a[:4]],
    ]


# Folders.


def test_a_trained_tokenizer_comes_back_from_its_folder(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    again = load_tokenizer(str(tmp_path))
    assert_equal(again.encode(TEXTS, 100), trained.encode(TEXTS, 100))
    assert (again.end_of_text, again.largest_id) == (trained.end_of_text, trained.largest_id)


def test_training_needs_room_for_every_byte() -> None:
    assert train_tokenizer(["a"], 257).largest_id == 256
    with pytest.raises(UserError, match="vocab_size 256 is too small"):
        train_tokenizer(["a"], 256)


def test_folders_that_hold_no_tokenizer(trained: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither vocab.json nor tokenizer.json"):
        load_tokenizer(str(tmp_path))
    trained.save(tmp_path)
    (tmp_path / "vocab.json").write_text("{")
    with pytest.raises(UserError, match="cannot be read") as caught:
        load_tokenizer(str(tmp_path))
    assert "\n" not in str(caught.value)
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(UserError, match=r"neither vocab.json"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_without_end_of_text(trained: Tokenizer, tmp_path: Path) -> None:
    trained.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"eos_token": null}')
    with pytest.raises(UserError, match="no end-of-text"):
        load_tokenizer(str(tmp_path))


def test_a_vocabulary_without_end_of_text(trained: Tokenizer, tmp_path: Path) -> None:
    """Transformers then puts it behind the last entry, which the model's table of just these entries doesn't have."""
    trained.save(tmp_path)
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(vocabulary.read_text().replace("<|endoftext|>", "<|something|>"))
    entries = len(json.loads(vocabulary.read_text()))
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.end_of_text == entries
    with pytest.raises(UserError, match="vocabulary only"):
        check_vocabulary(tokenizer, entries, "gpt2")


def test_ids_beyond_the_models_table(trained: Tokenizer) -> None:
    check_vocabulary(trained, trained.largest_id + 1, "gpt2")
    with pytest.raises(UserError, match=rf"^gpt2: .* up to {trained.largest_id}, .* only {trained.largest_id} entries"):
        check_vocabulary(trained, trained.largest_id, "gpt2")


# The cache.


class NeverEncodes(Tokenizer):
    """The same tokenizer to the cache, but it can't encode."""

    def encode(self, texts: Sequence[str], max_length: int) -> Ragged:
        raise AssertionError("encoded what the cache has")


def never(tokenizer: Tokenizer) -> Tokenizer:
    return NeverEncodes(tokenizer.backend, tokenizer.end_of_text)


def test_the_cache_gives_the_same_without_encoding(trained: Tokenizer, cache: Path) -> None:
    expected = trained.encode(TEXTS, 7)
    assert expected.truncated > 0
    assert_equal(encode_cached(trained, TEXTS, 7), expected)
    assert_equal(encode_cached(never(trained), TEXTS, 7), expected)
    assert len(list(cache.iterdir())) == 1


def test_the_cache_tells_apart_what_gives_other_ids(trained: Tokenizer, cache: Path) -> None:
    """One after the other in one cache: each gets its own ids, and a file of its own."""
    other = train_tokenizer(TEXTS[:3], 290)
    moved_end = Tokenizer(trained.backend, trained.end_of_text + 1)
    asked: list[tuple[Tokenizer, list[str], int]] = [
        (trained, ["ab", "c"], 10),
        (trained, ["a", "bc"], 10),
        (trained, ["abc"], 10),
        (trained, ["c", "ab"], 10),
        (trained, ["ab", "c", ""], 10),
        (trained, ["ab", "c"], 1),
        (other, ["ab", "c"], 10),
        (moved_end, ["ab", "c"], 10),
    ]
    for count, (tokenizer, texts, limit) in enumerate(asked, 1):
        assert_equal(encode_cached(tokenizer, texts, limit), tokenizer.encode(texts, limit))
        assert len(list(cache.iterdir())) == count
    for tokenizer, texts, limit in asked:
        assert_equal(encode_cached(never(tokenizer), texts, limit), tokenizer.encode(texts, limit))


def test_the_cache_tells_pairs_from_texts(trained: Tokenizer, cache: Path) -> None:
    for texts in ([("ab", "c")], ["ab", "c"], [("a", "bc")], [("ab", "c"), ("", "")], ["ab", "c", "", ""]):
        assert_equal(encode_cached(trained, texts, 10), trained.encode(texts, 10))


def replaced_ids(data: bytes) -> bytes:
    """One id exchanged for another, in a file that can be read."""
    with np.load(io.BytesIO(data)) as file:
        arrays = dict(file)
    arrays["ids"][0] ^= 1
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


DAMAGE: dict[str, Any] = {
    "empty": lambda data: b"",
    "cut": lambda data: data[:-30],
    "half": lambda data: data[: len(data) // 2],
    "garbage": lambda data: b"\x80\x04garbage" * 50,
    "another id": replaced_ids,
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_cache_file_is_made_anew(damage: Any, trained: Tokenizer, cache: Path) -> None:
    expected = encode_cached(trained, TEXTS, 20)
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert_equal(encode_cached(trained, TEXTS, 20), expected)
    assert_equal(encode_cached(never(trained), TEXTS, 20), expected)
    assert list(cache.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_is_no_error(
    trained: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "a file, no folder"
    blocked.write_text("")
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(blocked))
    assert_equal(encode_cached(trained, TEXTS, 20), trained.encode(TEXTS, 20))


@pytest.mark.parametrize("place", ["open", "savez", "sync", "replace"])
def test_a_write_that_fails_leaves_nothing(
    place: str, trained: Tokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: object, *rest: object, **named: object) -> None:
        if place == "savez":
            file.write(b"half")  # type: ignore[attr-defined]
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner = {"open": Path, "savez": np, "sync": files, "replace": os}[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, place, fail)
        assert_equal(encode_cached(trained, TEXTS, 20), trained.encode(TEXTS, 20))
    assert list(cache.glob("*")) == []


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("FLAX_AGNEWS_CACHE")
    assert cache_folder() == Path("/b/flax_agnews")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "flax_agnews"
