"""Tokenizes texts with GPT-2's byte-level BPE, and caches the token ids on disk by texts, tokenizer and length."""

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
from flax_agnews.errors import UserError, first_line, flag
from flax_agnews.system.caches import folder_of, make_room, mark_used
from flax_agnews.system.files import drafted, write_atomic, write_json
from flax_agnews.system.model_names import model_folder

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Ragged:
    """The concatenated token ids of many texts, or their hidden states at some layer.

    Attributes:
        ids: [all tokens] int32; or [all tokens, embd], the input of layer `depth`.
        offsets: [texts + 1] int64; text i is `ids[offsets[i]:offsets[i + 1]]`.
        truncated: number of texts that were cut at the length limit.
        depth: number of layers that computed `ids`; 0 for token ids.
    """

    ids: np.ndarray
    offsets: np.ndarray
    truncated: int = 0
    depth: int = 0

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> np.ndarray:
        """Number of tokens of each text: [texts] int64."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], truncated: int = 0) -> "Ragged":
        """Concatenates one sequence of ids for each text."""
        arrays = [np.asarray(row, np.int32) for row in rows]
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays])]).astype(np.int64)
        return cls(np.concatenate([*arrays, np.zeros(0, np.int32)]), offsets, truncated)


class Tokenizer:
    """A byte-level BPE tokenizer for whole texts; an empty text becomes the end-of-text token.

    Args:
        backend: a `tokenizers.Tokenizer`.
        end_of_text: id of the end-of-text token, which also separates pairs and ends texts in language modelling.
        special_tokens: how a special token's name in a text is read: `text` splits it like any other text, so that no
            text can contain a real one; `tokens` reads it as the token, like `transformers`. Added tokens that aren't
            special are read as tokens in both cases.
    """

    def __init__(self, backend: Any, end_of_text: int, special_tokens: str = "text") -> None:
        self.backend, self.end_of_text, self.special_tokens = backend, end_of_text, special_tokens
        self.backend.encode_special_tokens = special_tokens == "text"
        self.backend.no_truncation()
        self.backend.no_padding()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything that influences token ids."""
        described = f"{self.backend.to_str()} {self.end_of_text}"
        if self.special_tokens != "text":  # not part of the description
            described += f" {self.special_tokens}"
        return hashlib.sha256(described.encode()).hexdigest()

    @cached_property
    def vocabulary(self) -> str:
        """SHA-256 of the vocabulary's entries and ids, independent of the library's version."""
        return digest_of(*(f"{token} {number}" for token, number in sorted(self.backend.get_vocab().items())))

    @property
    def largest_id(self) -> int:
        """The largest token id."""
        return max(self.backend.get_vocab(with_added_tokens=True).values())

    @cached_property
    def added(self) -> dict[str, bool]:
        """Name of each token added to the BPE vocabulary -> whether it is a special token."""
        return {token.content: token.special for token in self.backend.get_added_tokens_decoder().values()}

    @property
    def settings(self) -> dict[str, Any]:
        """The content of tokenizer_config.json, for `load_tokenizer` and transformers."""
        end = self.backend.id_to_token(self.end_of_text)
        return {
            "tokenizer_class": "GPT2Tokenizer",
            **dict.fromkeys(("bos_token", "eos_token", "unk_token"), end),
            "add_prefix_space": getattr(self.backend.pre_tokenizer, "add_prefix_space", False),
        }

    def special_in(self, texts: Sequence[Text]) -> tuple[int, set[str]]:
        """Number of texts (or pairs) that contain the name of a special token, and the names that occur."""
        names = sorted((name for name, special in self.added.items() if special), key=len, reverse=True)
        find, count, found = re.compile("|".join(map(re.escape, names))).findall, 0, set[str]()
        for text in texts if names else ():
            if here := [name for part in ((text,) if isinstance(text, str) else text) for name in find(part)]:
                count, found = count + 1, found | set(here)
        return count, found

    def encode(self, texts: Sequence[Text], max_length: int) -> Ragged:
        """Encodes texts, or pairs as first text, end-of-text, second text; each is cut to `max_length` ids.

        Pairs have a delimiter between the texts as in GPT (Radford et al. 2018, "Improving Language Understanding by
        Generative Pre-Training", section 3.3). It is end-of-text since GPT-2 has learned that token and, other than a
        newline, no text contains it (unless special tokens are read as tokens). DialoGPT, which was trained from GPT-2,
        has it between turns too (https://huggingface.co/microsoft/DialoGPT-medium).
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
        """Cuts a pair to `most` ids: the longer text to the length of the other, then both equally.

        The separator stays. This is `longest_first` of Hugging Face's tokenizers: if both are cut, the longer one (the
        second if they are equal) may keep one id more.
        """
        left = most - 1
        short = min(len(first), len(second), left // 2)
        kept = (short, left - short) if len(first) <= len(second) else (left - short, short)
        return [*first[: kept[0]], self.end_of_text, *second[: kept[1]]]

    def copy_to(self, folder: Path) -> None:
        """Writes `tokenizer.json` and `tokenizer_config.json`, which `load_tokenizer` and transformers read."""
        write_atomic(folder / "tokenizer.json", self.backend.to_str().encode())
        write_json(folder / "tokenizer_config.json", self.settings)  # written last: if it exists, so does the other

    def save(self, folder: Path) -> None:
        """Writes `vocab.json` and `merges.txt` (GPT-2's own two files) into the folder atomically, merges last."""
        try:
            with TemporaryDirectory() as made:
                for file in sorted(map(Path, self.backend.model.save(made)), key=lambda file: file.suffix):
                    write_atomic(folder / file.name, file.read_bytes())
        except UserError:
            raise
        except Exception as error:  # tokenizers has no error class
            raise UserError(f"{folder}: cannot be written ({first_line(error)})") from error


def load_tokenizer(name: str, special_tokens: str = "text") -> Tokenizer:
    """Loads the tokenizer of a hub id, `builtin` or a directory (`tokenizer.json`, or `vocab.json` and `merges.txt`).

    `special_tokens` has the meaning that it has in `Tokenizer`.
    """
    os.environ.setdefault(
        "TRANSFORMERS_NO_ADVISORY_WARNINGS", "1"
    )  # it would advise to install PyTorch, which isn't needed
    from transformers import GPT2Tokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    folder = model_folder(name)
    if folder.is_dir() and not ((folder / "vocab.json").exists() or (folder / "tokenizer.json").exists()):
        raise UserError(f"{flag('model.tokenizer')} {name}: the folder has neither vocab.json nor tokenizer.json")
    try:
        with nullcontext() if folder.is_dir() else quiet():
            tokenizer = GPT2Tokenizer.from_pretrained(str(folder) if folder.is_dir() else name)
        if tokenizer.backend_tokenizer.get_vocab_size() < 257:  # the result if files are missing is an empty vocabulary
            raise ValueError("the vocabulary lacks the 256 bytes and end-of-text")
    except Exception as error:  # the client raises OSError, ValueError, and errors of its parser
        if folder.is_dir():
            raise UserError(f"{flag('model.tokenizer')} {name}: cannot be read ({first_line(error)})") from error
        raise UserError(
            f"tokenizer {name} is not in the cache and the hub can't be reached, or has no such tokenizer",
            offline(f"{flag('model.tokenizer')} DIR"),
        ) from error
    end = tokenizer.eos_token_id
    if end is None or tokenizer.backend_tokenizer.token_to_id(str(tokenizer.eos_token)) is None:
        raise UserError(f"{flag('model.tokenizer')} {name}: has no end-of-text token ({END_OF_TEXT})")
    return Tokenizer(tokenizer.backend_tokenizer, int(end), special_tokens)


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Trains a byte-level BPE of at most `vocabulary` entries on texts; 256 bytes and end-of-text are always in it."""
    from tokenizers import ByteLevelBPETokenizer

    if vocabulary < 257:
        raise UserError(f"model.from_config: vocab_size {vocabulary} is too small for a tokenizer; 257 or more")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        texts, vocab_size=vocabulary, min_frequency=2, special_tokens=[END_OF_TEXT], show_progress=False
    )
    return Tokenizer(trained._tokenizer, trained.token_to_id(END_OF_TEXT))


def check_vocabulary(tokenizer: Tokenizer, vocabulary: int, where: str) -> None:
    """Raises a `UserError` if token ids exceed the embedding table, since lookups would silently give wrong rows."""
    largest = max(tokenizer.largest_id, tokenizer.end_of_text)
    if largest >= vocabulary:
        raise UserError(
            f"{where}: the tokenizer has ids up to {largest}, the model's vocabulary only {vocabulary} entries. "
            f"Choose the model's own tokenizer with {flag('model.tokenizer')}"
        )


def encode_cached(tokenizer: Tokenizer, texts: Sequence[Text], max_length: int) -> Ragged:
    """Encodes texts, or reads their ids from the cache if the same texts were encoded in the same way before."""
    how = f"{max_length} a pair" if _paired(texts) else str(max_length)
    strings = (part for text in texts for part in ((text,) if isinstance(text, str) else text))
    key = digest_of(tokenizer.fingerprint, how, *strings)
    path = folder_of("tokens") / f"{key}.npz"
    cached = _read(path)
    if cached is None:
        cached = tokenizer.encode(texts, max_length)
        _write(path, cached)
    return cached


def _paired(texts: Sequence[Text]) -> bool:
    return bool(texts) and not isinstance(texts[0], str)


def digest_of(*parts: str) -> str:
    """SHA-256 of a list of strings, each hashed with its length."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


def _checksum(ragged: Ragged) -> str:
    return hashlib.sha256(ragged.ids.tobytes() + ragged.offsets.tobytes()).hexdigest()


def _read(path: Path) -> Ragged | None:
    """Reads token ids from a cache file; None if it is missing or damaged."""
    try:
        # Opened here, since NumPy leaves a damaged file open.
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            meta = json.loads(str(file["meta"]))
            ragged = Ragged(file["ids"], file["offsets"], meta["truncated"])
        mark_used(path)
        return ragged if meta["sha256"] == _checksum(ragged) else None
    except Exception:  # zipfile, NumPy and json raise different errors for a damaged file
        return None


def _write(path: Path, ragged: Ragged) -> None:
    """Writes a cache file atomically, unless there is no room or that fails, which is ignored."""
    if not make_room(ragged.ids.nbytes + ragged.offsets.nbytes):
        return
    meta = json.dumps({"truncated": ragged.truncated, "sha256": _checksum(ragged)})
    with suppress(UserError), drafted(path) as draft:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            np.savez(file, ids=ragged.ids, offsets=ragged.offsets, meta=np.array(meta))
