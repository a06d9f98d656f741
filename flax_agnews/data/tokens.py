"""Texts -> ragged token ids: GPT-2's byte-level BPE, cached on disk by text, tokenizer and length."""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from flax_agnews.data.hub import offline, quiet
from flax_agnews.data.rows import Text
from flax_agnews.errors import UserError, first_line
from flax_agnews.system.environment import cache_folder
from flax_agnews.system.files import drafted, expanded, write_atomic, write_json

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Ragged:
    """Token ids of many texts, one behind the other; or what layers of a body have made of them.

    Attributes:
        ids: [all tokens] int32; or [all tokens, embd], what enters layer `depth`.
        offsets: [texts + 1] int64; text i is `ids[offsets[i]:offsets[i + 1]]`.
        truncated: texts that were longer than the most allowed, and were cut.
        depth: layers that `ids` have been through; 0 for token ids.
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: int = 0
    depth: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """[texts] int64, tokens of each text."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], truncated: int = 0) -> "Ragged":
        """From one sequence of ids a text."""
        arrays = [np.asarray(row, np.int32) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        return cls(np.concatenate([*arrays, np.zeros(0, np.int32)]), offsets, truncated)


class Tokenizer:
    """A byte-level BPE for whole texts; an empty text is end-of-text.

    Args:
        backend: a `tokenizers.Tokenizer`.
        end_of_text: id that stands for an empty text and ends a text in language modelling.
        special_tokens: what the name of a special token is in a text: `text`, split like any other, so that no text
            can forge one; or `tokens`, the token itself, end-of-text too, which is how `transformers` reads a text.
            Added tokens that are not special are tokens in both cases, in `transformers` as well.
    """

    def __init__(self, backend: Any, end_of_text: int, special_tokens: str = "text") -> None:
        self.backend, self.end_of_text, self.special_tokens = backend, end_of_text, special_tokens
        self.backend.encode_special_tokens = special_tokens == "text"
        self.backend.no_truncation()
        self.backend.no_padding()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that decides the ids."""
        described = f"{self.backend.to_str()} {self.end_of_text}"
        if self.special_tokens != "text":  # of which the description says nothing
            described += f" {self.special_tokens}"
        return hashlib.sha256(described.encode()).hexdigest()

    @cached_property
    def vocabulary(self) -> str:
        """SHA-256 of its entries and their ids, which stays the same from version to version of the library."""
        return _digest(*(f"{token} {number}" for token, number in sorted(self.backend.get_vocab().items())))

    @property
    def largest_id(self) -> int:
        """The largest id that a text can get."""
        return max(self.backend.get_vocab(with_added_tokens=True).values())

    @cached_property
    def added(self) -> dict[str, bool]:
        """Tokens beside those that the merges make: name -> whether it is a special token."""
        return {token.content: token.special for token in self.backend.get_added_tokens_decoder().values()}

    @property
    def settings(self) -> dict[str, Any]:
        """What tokenizer_config.json says of it, for `load_tokenizer` and transformers."""
        end = self.backend.id_to_token(self.end_of_text)
        return {
            "tokenizer_class": "GPT2Tokenizer",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), end),
            "add_prefix_space": getattr(self.backend.pre_tokenizer, "add_prefix_space", False),
        }

    def special_in(self, texts: Sequence[Text]) -> tuple[int, set[str]]:
        """How many of the texts (or pairs) contain the name of a special token, and which names they contain."""
        names = sorted((name for name, special in self.added.items() if special), key=len, reverse=True)
        find, count, found = re.compile("|".join(map(re.escape, names))).findall, 0, set[str]()
        for text in texts if names else ():
            if here := [name for part in ((text,) if isinstance(text, str) else text) for name in find(part)]:
                count, found = count + 1, found | set(here)
        return count, found

    def encode(self, texts: Sequence[Text], max_length: int) -> Ragged:
        """Ids of each text, at most `max_length` of them (the first ones); of a pair: first, end-of-text, second.

        A delimiter between the two is GPT's way (Radford et al. 2018, "Improving Language Understanding by Generative
        Pre-Training", section 3.3). End-of-text is the one that GPT-2 knows and that no text contains (unless special
        tokens are read as tokens), where a newline may be in both; it stands between the turns of DialoGPT too, which
        was made from GPT-2 (https://huggingface.co/microsoft/DialoGPT-medium). All are texts, or all are pairs.
        """
        parts = [self._ids(column) for column in (zip(*texts, strict=True) if _paired(texts) else [texts])]
        truncated, rows = 0, []
        for first, *others in zip(*parts, strict=True):
            whole = [*first, self.end_of_text, *others[0]] if others else first or [self.end_of_text]
            if len(whole) > max_length:
                truncated += 1
                whole = self._cut(first, others[0], max_length) if others else whole[:max_length]
            rows.append(whole)
        return Ragged.of(rows, truncated)

    def _ids(self, texts: Iterable[Any]) -> list[list[int]]:
        return [encoding.ids for encoding in self.backend.encode_batch_fast(list(texts), add_special_tokens=False)]

    def _cut(self, first: list[int], second: list[int], most: int) -> list[int]:
        """A pair of `most` ids: the longer text is cut down to the other, then both alike; the separator never.

        This is `longest_first` of Hugging Face's tokenizers: where both are cut, the longer one, or the second, may
        have one more.
        """
        left = most - 1
        short = min(len(first), len(second), left // 2)
        kept = (short, left - short) if len(first) <= len(second) else (left - short, short)
        return [*first[: kept[0]], self.end_of_text, *second[: kept[1]]]

    def copy_to(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, which `load_tokenizer` and transformers read."""
        write_atomic(folder / "tokenizer.json", self.backend.to_str().encode())
        write_json(folder / "tokenizer_config.json", self.settings)  # last: where it is, the other one is too

    def save(self, folder: Path) -> None:
        """Writes `vocab.json` and `merges.txt` (GPT-2's own two files) into the folder, each whole, merges last."""
        try:
            with TemporaryDirectory() as made:
                for file in sorted(map(Path, self.backend.model.save(made)), key=lambda file: file.suffix):
                    write_atomic(folder / file.name, file.read_bytes())
        except UserError:
            raise
        except Exception as error:  # tokenizers raises no kind of its own
            raise UserError(f"{folder}: cannot be written ({first_line(error)})") from error


def load_tokenizer(name: str, special_tokens: str = "text") -> Tokenizer:
    """The tokenizer of a hub id or a local directory (`tokenizer.json`, or `vocab.json` and `merges.txt`).

    `special_tokens` is as `Tokenizer` has it.
    """
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")  # it would advise PyTorch, which nobody needs here
    from transformers import GPT2Tokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    folder = expanded(name)
    if folder.is_dir() and not ((folder / "vocab.json").exists() or (folder / "tokenizer.json").exists()):
        raise UserError(f"--model.tokenizer {name}: the folder has neither vocab.json nor tokenizer.json")
    try:
        with nullcontext() if folder.is_dir() else quiet():
            tokenizer = GPT2Tokenizer.from_pretrained(str(folder) if folder.is_dir() else name)
        if tokenizer.backend_tokenizer.get_vocab_size() < 257:  # where files are missing, it gives an empty one
            raise ValueError("the vocabulary lacks the 256 bytes and end-of-text")
    except Exception as error:  # the client raises what it likes: OSError, ValueError, errors of its parser
        if folder.is_dir():
            raise UserError(f"--model.tokenizer {name}: cannot be read ({first_line(error)})") from error
        raise UserError(
            f"tokenizer {name} is not in the cache and the hub can't be reached, or has no such tokenizer",
            offline("--model.tokenizer DIR"),
        ) from error
    end = tokenizer.eos_token_id
    if end is None or tokenizer.backend_tokenizer.token_to_id(str(tokenizer.eos_token)) is None:
        raise UserError(f"--model.tokenizer {name}: has no end-of-text token ({END_OF_TEXT})")
    return Tokenizer(tokenizer.backend_tokenizer, int(end), special_tokens)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """A byte-level BPE of at most `vocabulary` entries from the texts (256 bytes and end-of-text are always in it)."""
    from tokenizers import ByteLevelBPETokenizer

    if vocabulary < 257:
        raise UserError(f"model.from_config: vocab_size {vocabulary} is too small for a tokenizer; 257 or more")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        texts, vocab_size=vocabulary, min_frequency=2, special_tokens=[END_OF_TEXT], show_progress=False
    )
    return Tokenizer(trained._tokenizer, trained.token_to_id(END_OF_TEXT))


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int, where: str) -> None:
    """Ids beyond the model's table would silently read a wrong row: an error before anything is compiled."""
    largest = max(tokenizer.largest_id, tokenizer.end_of_text)
    if largest >= vocabulary:
        raise UserError(
            f"{where}: the tokenizer has ids up to {largest}, the model's vocabulary only {vocabulary} entries. "
            "Choose the model's own tokenizer with --model.tokenizer"
        )


def encode_cached(tokenizer: Tokenizer, texts: Sequence[Text], max_length: int) -> Ragged:
    """`tokenizer.encode`, from disk where the same texts were encoded in the same way before."""
    how = f"{max_length} a pair" if _paired(texts) else str(max_length)
    strings = (part for text in texts for part in ((text,) if isinstance(text, str) else text))
    key = _digest(tokenizer.fingerprint, how, *strings)
    path = cache_folder() / "tokens" / f"{key}.npz"
    cached = _read(path)
    if cached is None:
        cached = tokenizer.encode(texts, max_length)
        _write(path, cached)
    return cached


def _paired(texts: Sequence[Text]) -> bool:
    return bool(texts) and not isinstance(texts[0], str)


def _digest(*parts: str) -> str:
    """SHA-256 of strings, told apart from each other by their lengths."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _checksum(ragged: Ragged) -> str:
    return hashlib.sha256(ragged.ids.tobytes() + ragged.offsets.tobytes()).hexdigest()


def _read(path: Path) -> Ragged | None:
    """A cache file's tokens; None where it is absent or damaged (then it is made anew)."""
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            ragged = Ragged(file["ids"], file["offsets"], meta["truncated"])
        return ragged if meta["sha256"] == _checksum(ragged) else None
    except Exception:  # zipfile, NumPy and json each raise their own on a damaged file; all mean the same here
        return None


def _write(path: Path, ragged: Ragged) -> None:
    """Writes beside and renames, so that no reader sees half a file. A cache that can't be written is no error."""
    meta = json.dumps({"truncated": ragged.truncated, "sha256": _checksum(ragged)})
    with suppress(UserError), drafted(path) as draft:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.savez(file, ids=ragged.ids, offsets=ragged.offsets, meta=np.array(meta))
