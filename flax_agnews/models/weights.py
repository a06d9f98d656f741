"""Weight files <-> parameters by path: safetensors (sharded too) as on the hub, FlaxGPT2's msgpack. Never unpickles."""

import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.errors import UserError, first_line

# Leaf names of ours -> of PyTorch's files. Conv1D weights are [in, out] there too, so kernels need no transpose.
_TORCH_LEAF = {"embedding": "weight", "scale": "weight", "kernel": "weight", "bias": "bias"}

# Keys that GPT-2 files may carry and a body doesn't need: attention's constant buffers, and heads.
_IGNORED = re.compile(r"(h\.\d+\.attn\.(bias|masked_bias)|(lm_head|score|multiple_choice_head)\..*)")

Fetch = Callable[[str], Path | None]
"""A file's name in a model's repository -> the local file, or None where the repository has no such file."""


def hub_key(path: str) -> str:
    """`transformer/h/0/ln_1/scale` -> `h.0.ln_1.weight`, the key in GPT2Model's files."""
    *parts, leaf = path.split("/")[1:]
    return ".".join([*parts, _TORCH_LEAF[leaf]])


def read_weights(fetch: Fetch, shapes: Mapping[str, tuple[int, ...]], where: str) -> dict[str, np.ndarray]:
    """The body's parameters, from the best weights file that there is.

    Args:
        fetch: gives files of the model.
        shapes: path -> shape of each parameter that is needed.
        where: the model's name, for errors.

    Returns:
        Path -> float32 array.
    """
    if file := fetch("model.safetensors"):
        return _select(_read_safetensors(file, where), shapes, f"{where}: {file.name}")
    if index := fetch("model.safetensors.index.json"):
        return _select(_read_shards(fetch, index, where), shapes, f"{where}: {index.name}")
    if file := fetch("flax_model.msgpack"):
        return _select(_read_msgpack(file, where), shapes, f"{where}: {file.name}")
    if fetch("pytorch_model.bin") or fetch("pytorch_model.bin.index.json"):
        raise UserError(
            f"{where}: has only pytorch_model.bin, a pickle, which could run code and is never loaded. Convert it once "
            'where you trust it: python -c "from transformers import AutoModel; '
            "AutoModel.from_pretrained('DIR').save_pretrained('NEW')\""
        )
    raise UserError(f"{where}: has neither model.safetensors nor flax_model.msgpack")


def write_safetensors(file: Path, parameters: Mapping[str, Any]) -> None:
    """Writes a body as GPT2Model's `model.safetensors`, which transformers loads."""
    from safetensors.numpy import save_file

    tensors = {hub_key(path): np.ascontiguousarray(value, np.float32) for path, value in parameters.items()}
    beside = file.with_name(f".{file.name}.{os.getpid()}")  # so that nobody finds half a file
    save_file(tensors, beside, metadata={"format": "pt"})
    os.replace(beside, file)


def _select(
    tensors: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], where: str
) -> dict[str, np.ndarray]:
    """The tensors that the shapes ask for. Missing, misshapen and unknown ones are listed, all of them."""
    tensors = {key.removeprefix("transformer."): value for key, value in tensors.items()}
    keys = {path: hub_key(path) for path in shapes}
    if missing := [key for key in keys.values() if key not in tensors]:
        raise UserError(f"{where} lacks {', '.join(missing)}")
    wrong = [
        f"{keys[path]} is {list(tensors[keys[path]].shape)} instead of {list(shape)}"
        for path, shape in shapes.items()
        if tensors[keys[path]].shape != tuple(shape)
    ]
    if wrong:
        raise UserError(f"{where} doesn't fit its config.json: {', '.join(wrong)}")
    if unknown := [k for k in tensors if k not in set(keys.values()) and not _IGNORED.fullmatch(k)]:
        raise UserError(f"{where} has weights that its config.json doesn't: {', '.join(unknown)}")
    return {path: np.asarray(tensors[keys[path]], np.float32) for path in shapes}


def _read_safetensors(file: Path, where: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="np") as tensors:
            return {key: tensors.get_tensor(key) for key in tensors.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: {file.name} is truncated or damaged ({first_line(error)})") from error


def _read_shards(fetch: Fetch, index: Path, where: str) -> dict[str, np.ndarray]:
    try:
        names = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise UserError(f"{where}: {index.name} is damaged ({first_line(error)})") from error
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise UserError(f"{where}: {index.name} names a file outside the model's folder ({name})")
        if (file := fetch(name)) is None:
            raise UserError(f"{where}: {index.name} names {name}, which is missing")
        tensors |= _read_safetensors(file, where)
    return tensors


def _read_msgpack(file: Path, where: str) -> dict[str, np.ndarray]:
    """FlaxGPT2's file, under PyTorch's keys; its Conv1D kernels are [out, in]."""
    from flax.serialization import msgpack_restore
    from flax.traverse_util import flatten_dict

    try:
        nested = msgpack_restore(file.read_bytes())
        flat = {tuple(map(str, path)): np.asarray(value) for path, value in flatten_dict(nested).items()}
    except Exception as error:  # msgpack raises many kinds on damaged bytes
        raise UserError(f"{where}: {file.name} is truncated or damaged ({first_line(error)})") from error
    tensors = {}
    for (*parts, leaf), value in flat.items():
        key = ".".join([*parts, _TORCH_LEAF.get(leaf, leaf)])
        tensors[key] = value.T if leaf == "kernel" else value
    return tensors
