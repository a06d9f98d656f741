"""On a full disk, nothing half-written is left, and files that were there before stay."""

import io
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from flax_agnews.config import ModelConfig
from flax_agnews.data import tokens, vocabularies
from flax_agnews.data.tables import Chunk, writing
from flax_agnews.data.tokens import Ragged, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.experiment import preparation
from flax_agnews.models.pretrained import load_base
from flax_agnews.system.display import Display
from flax_agnews.system.files import write_json
from flax_agnews.trained.exports import export_run
from flax_agnews.training import adaptation, checkpoint, jax_setup, private_apis
from flax_agnews.training.array_cache import ArrayFolder, NoRoom
from flax_agnews.training.checkpoint import Store

pytestmark = pytest.mark.faults

BODY = {"vocab_size": 300, "n_positions": 64, "n_embd": 64, "n_layer": 2, "n_head": 2}
NOISE = np.random.default_rng(0).integers(0, 2**31 - 1, 100_000, dtype=np.int32)  # 400 kB that don't compress


def _tokens(disk: Path) -> None:
    tokens._write(disk / "tokens" / "key.npz", Ragged.of([NOISE[:50_000], NOISE[50_000:]]))


def _arrays(disk: Path) -> None:
    folder = ArrayFolder(disk / "activations", 10**9, lambda text: None)
    with folder.create("key", (100_000,), np.int32) as values:
        values[:] = NOISE


def _body(disk: Path) -> None:
    base = load_base(ModelConfig(from_config=dict(BODY)))
    adaptation.keep(base, adaptation.Adaptation("key", base.hash, [1.0], 1.0), disk / "adapted" / "key")


def _program(disk: Path) -> None:
    jax_setup.keep_whole_programs()
    private_apis.compilation_cache()(str(disk / "compiled"), max_size=-1).put("key", NOISE.tobytes())


def _trained_vocabulary(disk: Path) -> None:
    with pytest.MonkeyPatch.context() as patch, TemporaryDirectory() as folder:
        patch.setenv("FLAX_AGNEWS_CACHE", str(disk))
        vocabularies.write_vocabulary(_words(), 6_000, Path(folder))


def _cached_body(disk: Path) -> None:
    base = load_base(ModelConfig(from_config=dict(BODY)))
    result = adaptation.Adaptation("key", base.hash, [1.0], 1.0)
    preparation._cache(base, result, disk / "adapted" / "key", Display(Console(file=io.StringIO())))


def _json(disk: Path) -> None:
    write_json(disk / "results.json", NOISE.tolist())


def _words() -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return ["".join(letters[n % 26] for n in NOISE[start : start + 8]) for start in range(0, 80_000, 8)]


def _vocabulary(disk: Path) -> None:
    train_tokenizer(_words(), 6_000).save(disk / "tokenizer")


def _table(suffix: str) -> Callable[[Path], None]:
    def write(disk: Path) -> None:
        import pyarrow as pa

        texts = [str(number) for number in NOISE[:20_000]]
        records: Any = {
            "csv": [[text] for text in texts],
            "jsonl": [{"text": text} for text in texts],
            "parquet": pa.RecordBatch.from_pydict({"text": texts}),
        }[suffix]
        with writing(disk / f"answers.{suffix}") as add:
            add(
                Chunk("here", ["text"], records, range(len(texts)), "row", 1.0, lambda name: list(texts)),
                {"more": texts},
            )

    return write


WRITERS: dict[str, Callable[[Path], None]] = {
    "tokens": _tokens,
    "activations": _arrays,
    "the adapted body": _body,
    "the adapted body's copy in the cache": _cached_body,
    "a trained vocabulary": _trained_vocabulary,
    "a compiled program": _program,
    "results": _json,
    "a vocabulary": _vocabulary,
    "a CSV file of answers": _table("csv"),
    "a JSONL file of answers": _table("jsonl"),
    "a Parquet file of answers": _table("parquet"),
}
SILENT = {"tokens", "a trained vocabulary", "the adapted body's copy in the cache", "a compiled program"}
"""Caches: what they can't keep is made again."""


def _files(disk: Path) -> dict[str, bytes]:
    return {str(path.relative_to(disk)): path.read_bytes() for path in sorted(disk.rglob("*")) if path.is_file()}


@contextmanager
def _filled(disk: Path, room: int) -> Iterator[None]:
    """So many bytes are free inside."""
    filler = disk.parent / "disk" / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - room)
    try:
        yield
    finally:
        filler.unlink()


@pytest.mark.parametrize("room", [0, 8192, 65536])
@pytest.mark.parametrize("what", WRITERS)
def test_nothing_is_left_of_what_has_no_room(small_disk: Path, what: str, room: int) -> None:
    """What is small and was written before the disk was full may stay; nothing that is half-done."""
    write = WRITERS[what]
    write(small_disk)
    whole = _files(small_disk)
    assert whole
    for path in small_disk.iterdir():
        (shutil.rmtree if path.is_dir() else Path.unlink)(path)
    with _filled(small_disk, room):
        if what in SILENT:
            write(small_disk)
        else:
            with pytest.raises((UserError, NoRoom)) as caught:
                write(small_disk)
            assert "No space left on device" in str(caught.value)
            assert len(str(caught.value).splitlines()) == 1
        left = _files(small_disk)
        del left["filler"]
    assert {name: content for name, content in left.items() if whole.get(name) != content} == {}
    assert len(left) < len(whole)
    write(small_disk)
    assert _files(small_disk) == whole


def test_what_a_file_of_answers_was_before_stays(small_disk: Path) -> None:
    (small_disk / "answers.csv").write_text("old")
    with _filled(small_disk, 8192), pytest.raises(UserError, match=r"answers\.csv: cannot be written \(No space left"):
        _table("csv")(small_disk)
    assert _files(small_disk) == {"answers.csv": b"old"}


def test_values_whose_description_has_no_room_are_not_left(small_disk: Path) -> None:
    """The cache of frozen layers: the array serves this process alone."""
    folder = ArrayFolder(small_disk / "activations", 10**9, lambda text: None)
    (small_disk / "activations" / "key").mkdir()
    with _filled(small_disk, NOISE.nbytes + 4096), folder.create("key", NOISE.shape, np.int32) as values:
        values[:] = NOISE
        (small_disk / "rest").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert np.array_equal(folder.open("key", NOISE.shape, np.int32), NOISE)
    assert list((small_disk / "activations" / "key").iterdir()) == []


@pytest.mark.parametrize("to", ["hf", "flaxgpt2"])
def test_an_export_leaves_nothing(small_disk: Path, trained: Path, to: str) -> None:
    with _filled(small_disk, 65536), pytest.raises(UserError, match="cannot be written"):
        export_run(trained / "full" / "seed-42", to, small_disk / "export")
    assert list(small_disk.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # of TensorStore's other writes, and of coroutines that Orbax didn't await
def test_a_state_leaves_nothing_where_the_disk_fills_while_it_is_written(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of what is free came before: all the same, the save before stays, and later no draft.

    TensorStore's other threads may still make files for a moment, which a later save sweeps.
    """
    monkeypatch.setattr(checkpoint, "check_room", lambda *_: None)
    store = Store(small_disk / "checkpoints")
    state = {str(leaf): NOISE[:10_000] + leaf for leaf in range(20)}  # 800 kB
    store.save(1, state, {"best_epoch": 0})
    before = _files(small_disk)
    with _filled(small_disk, 300_000), pytest.raises((ValueError, OSError)):
        store.save(2, state, {"best_epoch": 0})
    assert {name for name in _files(small_disk) if ".draft/" not in name} == set(before)
    for step in (3, 4):
        time.sleep(0.5)
        store.save(step, state, {"best_epoch": 0})
    assert store.steps == [3, 4]
    assert [path.name for path in store.folder.glob(".*")] == []
