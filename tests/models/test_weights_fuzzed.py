"""Twelve thousand damaged weight files: each is refused in one line, or read as an independent reader reads it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import serialization
from safetensors.numpy import load_file
from support import weight_fuzzing as fuzzing

from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import body_shapes

FILES = 6000
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("kind", fuzzing.NAMES)
def test_a_spoiled_file_is_refused_in_one_line_or_read_right(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", fuzzing.__file__, kind, str(FILES), str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=600)
    left = [(path.name, path.read_bytes().hex()) for path in tmp_path.iterdir()]
    assert done.returncode == 0, f"{done.stderr[-3000:]}\nwhile reading {left}"
    told = json.loads(done.stdout)
    assert told["wrong"] == []
    assert told["files"] == told["loaded"] + told["refused"] == FILES
    assert told["loaded"] > FILES / 10  # both happen often enough to say something
    assert told["refused"] > FILES / 2
    assert told["grown"] < 150 << 20  # bytes: nothing is taken on the word of a header


def test_the_files_are_of_a_body() -> None:
    tiny = GPT2Config(vocab_size=6, n_positions=5, n_embd=4, n_layer=1, n_head=2, n_inner=8)
    assert body_shapes(tiny) == fuzzing.SHAPES


def test_the_whole_files_are_what_the_formats_own_libraries_read(tmp_path: Path) -> None:
    """And the independent readers see the same in them."""
    body = fuzzing.numbers(0)
    safe, flax = (fuzzing.whole_files(kind)[0] for kind in ("safetensors", "msgpack"))
    file = tmp_path / "model.safetensors"
    file.write_bytes(safe)
    theirs, ours = load_file(file), fuzzing.read_safetensors(safe)
    assert set(theirs) == set(ours) == {fuzzing.torch_key(path) for path in body}
    assert all(np.array_equal(theirs[key], value) for key, value in ours.items())
    tree, flat = serialization.msgpack_restore(flax)["transformer"], fuzzing.read_msgpack(flax)
    assert set(flat) == set(body)
    for path, value in flat.items():
        place = tree
        for part in path.split("/")[1:]:
            place = place[part]
        assert np.array_equal(place, value), path


def test_flax_s_own_chunks_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrays above a gigabyte, as flax cuts them; here above 64 bytes."""
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    tree: dict = {}
    for path, value in fuzzing.numbers(3).items():
        *parts, leaf = path.split("/")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        place[leaf] = np.ascontiguousarray(value.T if leaf == "kernel" else value)
    file = tmp_path / fuzzing.NAMES["msgpack"]
    file.write_bytes(serialization.msgpack_serialize(tree))
    assert b"__msgpack_chunked_array__" in file.read_bytes()
    found = fuzzing.loaded(file)
    assert isinstance(found, dict), found
    assert all(np.array_equal(value, fuzzing.numbers(3)[path]) for path, value in found.items())
