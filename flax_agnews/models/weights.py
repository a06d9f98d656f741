"""Reads and writes weight files: safetensors (sharded too) as on the hub, and FlaxGPT2's msgpack. Never unpickles.

Files are not trusted: a damaged or inconsistent file is refused, and reading takes no more memory than the file and its
numbers as float32.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.errors import UserError, first_line, listed, shown
from flax_agnews.system.files import drafted, read_model_json

# Leaf names here -> in PyTorch's files. Conv1D weights are [in, out] there too, so kernels need no transpose.
_TORCH_LEAF = {"embedding": "weight", "scale": "weight", "kernel": "weight", "bias": "bias"}

# Keys that GPT-2 files may have and a body doesn't need: attention's constant buffers, and the heads of transformers'
# GPT2LMHeadModel, GPT2DoubleHeadsModel, and GPT2For{SequenceClassification, TokenClassification, QuestionAnswering}.
_BUFFER = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
_HEAD = re.compile(r"(lm_head|score|multiple_choice_head)[./].*|(classifier|qa_outputs)\.(weight|bias)")

_FLOATS = ("float16", "bfloat16", "float32", "float64")  # integers would need a scale, which these files don't have
_MOST_LISTED = 100
_CHUNKED = "__msgpack_chunked_array__"

Fetch = Callable[[str], Path | None]
"""Name of a file in a model's directory or repository -> the local file, or None if it doesn't exist."""


def hub_key(path: str) -> str:
    """`transformer/h/0/ln_1/scale` -> `h.0.ln_1.weight`, the key in GPT2Model's files."""
    *parts, leaf = path.split("/")[1:]
    return ".".join([*parts, _TORCH_LEAF[leaf]])


def flax_key(path: str) -> str:
    """`transformer/h/0/ln_1/scale` -> `h/0/ln_1/scale`, the key in FlaxGPT2Model's files."""
    return path.removeprefix("transformer/")


Naming = tuple[Callable[[str], str], str]
"""How a file names parameters: function path -> key, and a prefix that all keys may have."""

_HUB: Naming = (hub_key, "transformer.")
_FLAX: Naming = (flax_key, "transformer/")


def read_weights(
    fetch: Fetch, shapes: Mapping[str, tuple[int, ...]], where: str
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Reads the body's parameters from a model's weight files: safetensors if it has them, or else msgpack.

    Args:
        fetch: name -> file of the model.
        shapes: path -> shape of each parameter to read.
        where: the model's name, for errors.

    Returns:
        Path -> float32 array; and the names of heads in the file, which are not read.
    """
    if file := _hub_file(fetch):
        tensors, naming = read_tensors(fetch, where), _HUB
    elif file := fetch("flax_model.msgpack"):
        tensors, naming = _read_msgpack(file, where), _FLAX
    if file:
        keys = (key.removeprefix(naming[1]) for key in tensors)
        heads = (re.split("[./]", key)[0] for key in keys if _HEAD.fullmatch(key))
        return select(tensors, shapes, naming, f"{where}: {file.name}"), tuple(sorted(set(heads)))
    if fetch("pytorch_model.bin") or fetch("pytorch_model.bin.index.json"):
        raise UserError(
            f"{where}: has only pytorch_model.bin, a pickle, which could run code and is never loaded. Convert it once "
            'where you trust it: python -c "from transformers import AutoModel; '
            "AutoModel.from_pretrained('DIR').save_pretrained('NEW')\""
        )
    raise UserError(f"{where}: has neither model.safetensors nor flax_model.msgpack")


def write_safetensors(file: Path, parameters: Mapping[str, Any]) -> None:
    """Writes a body as transformers' GPT2Model has it in `model.safetensors`; atomically."""
    write_tensors(file, {hub_key(path): value for path, value in parameters.items()})


def write_tensors(file: Path, tensors: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> None:
    """Writes a safetensors file of float32 tensors, with notes in its header; atomically."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = {key: np.ascontiguousarray(value, np.float32) for key, value in tensors.items()}
    with drafted(file) as draft:
        try:
            save_file(tensors, draft, metadata={"format": "pt", **(notes or {})})
        except SafetensorError as error:
            raise OSError(first_line(error)) from error


def select(
    tensors: Mapping[str, np.ndarray],
    shapes: Mapping[str, tuple[int, ...]],
    naming: Naming,
    where: str,
    measure: str = "its config.json",
) -> dict[str, np.ndarray]:
    """Selects parameters from a file's tensors, as float32; a missing, misshapen or unknown one is a `UserError`.

    Args:
        tensors: key -> tensor of a file.
        shapes: path -> shape of each parameter to select.
        naming: how the file names parameters.
        where: the file's name, for errors.
        measure: what the shapes come from, for errors.
    """
    key_of, before = naming
    found = {name.removeprefix(before): value for name, value in tensors.items()}
    if len(found) < len(tensors):
        raise UserError(f"{where} has weights twice, with {before} before their names and without")
    keys = {path: key_of(path) for path in shapes}
    if missing := [key for key in keys.values() if key not in found]:
        raise UserError(f"{where} lacks {listed(missing, _MOST_LISTED)}")
    wrong = [
        f"{keys[path]} is {list(found[keys[path]].shape)} instead of {list(shape)}"
        for path, shape in shapes.items()
        if found[keys[path]].shape != tuple(shape)
    ]
    if wrong:
        raise UserError(f"{where} doesn't fit {measure}: {listed(wrong, _MOST_LISTED)}")
    needed = set(keys.values())
    others = (key for key in found if key not in needed and not (_BUFFER.fullmatch(key) or _HEAD.fullmatch(key)))
    if unknown := [shown(key, 100) for key in others]:
        raise UserError(f"{where} has weights that {measure} doesn't: {listed(unknown, _MOST_LISTED)}")
    if odd := [f"{key} is {found[key].dtype}" for key in keys.values() if found[key].dtype.name not in _FLOATS]:
        raise UserError(f"{where}: {listed(odd)}; weights are {', '.join(_FLOATS)}")
    return {path: np.asarray(found[keys[path]], np.float32) for path in shapes}


def read_tensors(fetch: Fetch, where: str) -> dict[str, np.ndarray]:
    """Reads all tensors of a model's safetensors by key; empty if it has none. Arguments as in `read_weights`."""
    file = _hub_file(fetch)
    if file is None:
        return {}
    return read_safetensors(file, where)[0] if file.suffix == ".safetensors" else _read_shards(fetch, file, where)


def _hub_file(fetch: Fetch) -> Path | None:
    """The safetensors file of a model, or the index of its shards."""
    return fetch("model.safetensors") or fetch("model.safetensors.index.json")


def read_safetensors(file: Path, where: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file's tensors by key, and the notes in its header.

    Args:
        file: a safetensors file.
        where: the model's name, for errors.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            found = {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
            return found, dict(tensors.metadata() or {})
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: {file.name} is truncated or damaged ({shown(first_line(error), 200)})") from error


def _read_shards(fetch: Fetch, index: Path, where: str) -> dict[str, np.ndarray]:
    try:
        names = sorted(set(read_model_json(index)["weight_map"].values()))
        if not all(isinstance(name, str) for name in names):
            raise TypeError("a file's name is no text")
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{where}: {index.name} is damaged ({first_line(error)})") from error
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        if name in ("", "..") or Path(name).name != name:
            raise UserError(f"{where}: {index.name} names a file outside the model's folder ({shown(name, 200)})")
        if (file := fetch(name)) is None:
            raise UserError(f"{where}: {index.name} names {shown(name, 200)}, which is missing")
        shard = read_safetensors(file, where)[0]
        if twice := shard.keys() & tensors.keys():
            raise UserError(f"{where}: {file.name} has weights that another shard has: {listed(sorted(twice))}")
        tensors |= shard
    return tensors


def _read_msgpack(file: Path, where: str) -> dict[str, np.ndarray]:
    """Reads the tensors of a FlaxGPT2 file (written by flax.serialization) by key; its kernels are [out, in]."""
    import ml_dtypes
    import msgpack

    # msgpack allocates a list as long as its header says before reading the items, so lengths are limited.
    limits = {"max_array_len": 32, "max_map_len": 10_000}

    def array(code: int, data: bytes) -> np.ndarray:
        shape, kind, values = msgpack.unpackb(data, **limits)
        if code != 1 or kind not in _FLOATS:
            raise ValueError(f"{shown(kind)} instead of an array of {', '.join(_FLOATS)}")
        return _shaped(np.frombuffer(values, ml_dtypes.bfloat16 if kind == "bfloat16" else kind), shape)

    try:
        nested = msgpack.unpackb(file.read_bytes(), ext_hook=array, object_pairs_hook=_map, **limits)
        flat = dict(_leaves(nested))
    except Exception as error:  # msgpack raises many kinds on damaged bytes
        raise UserError(f"{where}: {file.name} is truncated or damaged ({shown(first_line(error), 200)})") from error
    return {place: value.T if place.endswith("/kernel") else value for place, value in flat.items()}


def _map(pairs: Sequence[tuple[Any, Any]]) -> Any:
    """Makes a dictionary, whose names must be unique; or an array, where flax wrote a large one as a map of chunks."""
    found = dict(pairs)
    if len(found) < len(pairs) or not all(isinstance(key, str) and "/" not in key for key in found):
        raise ValueError("a name is there twice, or is none")
    if _CHUNKED not in found:
        return found
    chunks, shape = ([found[key][str(i)] for i in range(len(found[key]))] for key in ("chunks", "shape"))
    return _shaped(np.concatenate(chunks), shape)


def _shaped(values: np.ndarray, shape: Any) -> np.ndarray:
    """Reshapes the values; raises a ValueError for an invalid shape, or one of another size."""
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"the shape {shown(shape)}")
    return values.reshape(shape)


def _leaves(nested: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """(key such as `h/0/ln_1/scale`, array) of each array in nested maps."""
    for key, value in nested.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{before}{key}/")
        elif isinstance(value, np.ndarray):
            yield f"{before}{key}", value
        else:
            raise ValueError(f"{shown(before + key)} is no array")
