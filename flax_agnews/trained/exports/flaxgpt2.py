"""Exports to FlaxGPT2 of `transformers` up to version 4: `flax_model.msgpack`, with the head beside the body."""

from pathlib import Path
from typing import Any

import numpy as np
from flax import serialization

from flax_agnews.models.weights import flax_key
from flax_agnews.system.files import write_atomic
from flax_agnews.trained.exports.card import write_card
from flax_agnews.trained.exports.plain import HEAD, notes, read_plain, why_not, write_plain
from flax_agnews.trained.exports.target import Logits, Target
from flax_agnews.trained.loading import LoadedRun

_FILE = "flax_model.msgpack"

_USE = """\
from flax.serialization import msgpack_restore
from transformers import AutoTokenizer, FlaxGPT2Model  # transformers 4

tokenizer, body = AutoTokenizer.from_pretrained("DIR"), FlaxGPT2Model.from_pretrained("DIR")
head = msgpack_restore(open("DIR/flax_model.msgpack", "rb").read())["score"]["kernel"]
ids = tokenizer({example}, truncation=True, return_tensors="np")
logits = body(**ids).last_hidden_state[:, -1] @ head  # of one text; in a padded batch, its last real token
"""


def write(run: LoadedRun, folder: Path) -> None:
    """Writes the body under `transformer`, kernels [out, in] as in FlaxConv1D, and the head under `score`."""
    found = write_plain(run, folder, "GPT2Model")
    tree: dict[str, Any] = {"transformer": {}, "score": {"kernel": found.pop(HEAD)}}
    for path, value in found.items():
        *places, leaf = flax_key(path).split("/")
        place = tree["transformer"]
        for name in places:
            place = place.setdefault(name, {})
        place[leaf] = np.ascontiguousarray(value.T if leaf == "kernel" else value)
    write_atomic(folder / _FILE, serialization.msgpack_serialize(tree))
    example = '"First.", "Second."' if run.paired else '"A text."'
    write_card(run, folder, _USE.replace("{example}", example), notes(run))


def read(folder: Path, run: LoadedRun) -> Logits:
    """Reads the export back; returns a function that computes its logits."""
    restore = serialization.msgpack_restore
    return read_plain(folder, run, lambda: restore((folder / _FILE).read_bytes())["score"]["kernel"])


FLAX_GPT2 = Target(why_not, write, read)
