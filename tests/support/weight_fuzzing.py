"""Damages weight files by the thousand, and reads each by the library and by readers written here from the formats.

`python tests/support/weight_fuzzing.py safetensors 6000 FOLDER` prints the outcomes as JSON. A process of its
own: it may not grow, nor hang, and a crash ends it with the file that did it left in FOLDER.
"""

import faulthandler
import json
import math
import resource
import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from flax_agnews.errors import UserError
from flax_agnews.models.weights import read_weights

LAYER = {
    "ln_1/scale": (4,),
    "ln_1/bias": (4,),
    "attn/c_attn/kernel": (4, 12),
    "attn/c_attn/bias": (12,),
    "attn/c_proj/kernel": (4, 4),
    "attn/c_proj/bias": (4,),
    "ln_2/scale": (4,),
    "ln_2/bias": (4,),
    "mlp/c_fc/kernel": (4, 8),
    "mlp/c_fc/bias": (8,),
    "mlp/c_proj/kernel": (8, 4),
    "mlp/c_proj/bias": (4,),
}
ENDS = {"wte/embedding": (6, 4), "wpe/embedding": (5, 4), "ln_f/scale": (4,), "ln_f/bias": (4,)}
SHAPES = {f"transformer/{name}": shape for name, shape in {**ENDS, **{f"h/0/{k}": v for k, v in LAYER.items()}}.items()}
"""A body of one layer: paths and shapes, as the library has them."""

NAMES = {"safetensors": "model.safetensors", "msgpack": "flax_model.msgpack"}
SECONDS, ADDRESSES = 60, 4 << 30  # for one file, and for the process
EXTREMES = (0, 1, 7, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1)
ODD_NUMBERS = (-1, 0, 3, 10**6, 2**31, 2**40, 2**63, 2**64 - 1, 1.0, True, None, "4", [4])


# Independent readers: name or place -> values as float32, or an error of any kind but a wrong answer.


def read_safetensors(data: bytes) -> dict[str, np.ndarray]:
    """8 bytes of length, a JSON header, and the numbers: without holes, overlaps and left-overs."""
    (length,) = struct.unpack("<Q", data[:8])
    if 8 + length > len(data):
        raise ValueError("the header is longer than the file")
    header, numbers = json.loads(data[8 : 8 + length].decode()), data[8 + length :]
    header.pop("__metadata__", None)
    found, place = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        count = math.prod(entry["shape"])
        if begin != place or end != begin + count * {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}[entry["dtype"]]:
            raise ValueError(f"{name} is not where and as long as it should be")
        found[name] = as_float32(entry["dtype"], numbers[begin:end]).reshape(entry["shape"])
        place = end
    if place != len(numbers):
        raise ValueError("left-overs")
    return found


def as_float32(kind: str, data: bytes) -> np.ndarray:
    if kind in ("BF16", "bfloat16"):  # the upper half of a float32
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    letters = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "float64": "<f8", "float32": "<f4", "float16": "<f2"}
    return np.frombuffer(data, letters[kind]).astype(np.float32)


def read_msgpack(data: bytes) -> dict[str, np.ndarray]:
    """A tree of maps with arrays as extension 1 at its ends: [shape, type, bytes] packed once more."""
    tree, end = unpacked(data, 0)
    if end != len(data):
        raise ValueError("left-overs")
    found: dict[str, np.ndarray] = {}
    todo = [("", tree)]
    while todo:
        before, branch = todo.pop()
        for key, value in branch.items():
            if "__msgpack_chunked_array__" in value:
                found[before + key] = joined(value)
            elif isinstance(value, dict):
                todo.append((f"{before}{key}/", value))
            else:
                found[before + key] = array_of(*value)
    return found


def array_of(kind: str, shape: list[int], data: bytes) -> np.ndarray:
    return as_float32(kind, data).reshape(shape)


def joined(chunked: dict[str, Any]) -> np.ndarray:
    parts = [array_of(*chunked["chunks"][str(i)]) for i in range(len(chunked["chunks"]))]
    shape = [chunked["shape"][str(i)] for i in range(len(chunked["shape"]))]
    if not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError("no shape")
    return np.concatenate(parts).reshape(shape)


def unpacked(data: bytes, at: int) -> tuple[Any, int]:
    """The object at a place and the place after it; an array is (type, shape, bytes)."""
    first, at = data[at], at + 1
    if first < 0x80:
        return first, at
    if first < 0x90:
        return unpacked_map(data, at, first & 15)
    if first < 0xA0:
        return unpacked_list(data, at, first & 15)
    if first < 0xC0:
        return taken(data, at, first & 31, text=True)
    if first >= 0xE0:
        return first - 256, at
    if first in (0xC0, 0xC2, 0xC3):
        return {0xC0: None, 0xC2: False, 0xC3: True}[first], at
    if 0xCA <= first <= 0xD3:
        form = {0xCA: ">f", 0xCB: ">d"}.get(first) or ">" + "BHIQbhiq"[first - 0xCC]
        return struct.unpack_from(form, data, at)[0], at + struct.calcsize(form)
    if 0xD4 <= first <= 0xD8:
        return extension(data, at, 1 << (first - 0xD4))
    width = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}.get(first)
    width = width or {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}[first]
    size, at = int.from_bytes(data[at : at + width], "big"), at + width
    if first in (0xC7, 0xC8, 0xC9):
        return extension(data, at, size)
    if first in (0xDC, 0xDD):
        return unpacked_list(data, at, size)
    return unpacked_map(data, at, size) if first in (0xDE, 0xDF) else taken(data, at, size, text=first > 0xC6)


def unpacked_map(data: bytes, at: int, size: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    for _ in range(size):
        key, at = unpacked(data, at)
        if not isinstance(key, str) or key in found or "/" in key:
            raise ValueError(f"{key!r} is no name, or there twice")
        found[key], at = unpacked(data, at)
    return found, at


def unpacked_list(data: bytes, at: int, size: int) -> tuple[list[Any], int]:
    found = []
    for _ in range(size):
        value, at = unpacked(data, at)
        found.append(value)
    return found, at


def taken(data: bytes, at: int, size: int, text: bool) -> tuple[Any, int]:
    if at + size > len(data):
        raise ValueError("cut off")
    return data[at : at + size].decode() if text else data[at : at + size], at + size


def extension(data: bytes, at: int, size: int) -> tuple[tuple[Any, ...], int]:
    inner, end = taken(data, at + 1, size, text=False)
    (shape, kind, values), after = unpacked(inner, 0)
    whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if data[at] != 1 or after != size or not whole or not isinstance(values, bytes):
        raise ValueError("no array")
    return (kind, shape, values), end


# Whole files.


def numbers(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {path: rng.standard_normal(shape).astype(np.float32) for path, shape in SHAPES.items()}


def torch_key(path: str) -> str:
    parts = path.split("/")[1:]
    return ".".join([*parts[:-1], "bias" if parts[-1] == "bias" else "weight"])


def pack_safetensors(tensors: Mapping[str, np.ndarray]) -> tuple[dict[str, Any], bytes]:
    """Header and numbers, under PyTorch's names."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for path, value in tensors.items():
        kind = {"float32": "F32", "float16": "F16", "float64": "F64"}[value.dtype.name]
        places = [len(data), len(data) + value.nbytes]
        header[torch_key(path)] = {"dtype": kind, "shape": list(value.shape), "data_offsets": places}
        data += value.tobytes()
    return header, data


def safetensors_file(header: Any, data: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def tree_of(tensors: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """As FlaxGPT2 nests them, kernels turned; arrays still as [shape, type, bytes]."""
    tree: dict[str, Any] = {}
    for path, value in tensors.items():
        *parts, leaf = path.split("/")
        place = tree
        for part in parts:
            place = place.setdefault(part, {})
        value = np.ascontiguousarray(value.T if leaf == "kernel" else value)
        place[leaf] = [list(value.shape), value.dtype.name, value.tobytes()]
    return tree


def packed_array(parts: list[Any], code: int = 1) -> Any:
    return msgpack.ExtType(code, msgpack.packb(parts))


def msgpack_file(tree: Any) -> bytes:
    def walk(branch: Any) -> Any:
        if isinstance(branch, dict):
            return {key: walk(value) for key, value in branch.items()}
        return packed_array(branch) if isinstance(branch, list) and len(branch) == 3 else branch

    return msgpack.packb(walk(tree))


# What spoils them. Each takes a random generator and whole files, and gives a file.

Spoil = Callable[[np.random.Generator, list[bytes]], bytes]


def flip(rng: np.random.Generator, files: list[bytes], start: int = 0) -> bytes:
    data = bytearray(files[0])
    for _ in range(rng.integers(1, 4)):
        data[rng.integers(start, len(data))] ^= 1 << int(rng.integers(8))
    return bytes(data)


def flip_head(rng: np.random.Generator, files: list[bytes]) -> bytes:
    data = flip(rng, [files[0][: int(rng.integers(8, 200))]])
    return data + files[0][len(data) :]


def truncate(rng: np.random.Generator, files: list[bytes]) -> bytes:
    return files[0][: int(rng.integers(len(files[0])))]


def lengthen(rng: np.random.Generator, files: list[bytes]) -> bytes:
    return files[0] + (rng.bytes(int(rng.integers(1, 50))) if rng.random() < 0.5 else bytes(int(rng.integers(1, 50))))


def splice(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """A piece of either file over, into or out of the first."""
    data, other = files[0], files[int(rng.integers(len(files)))]
    at, start, size = (int(rng.integers(len(data))), int(rng.integers(len(other))), int(rng.integers(1, 200)))
    return data[:at] + other[start : start + size] + data[at + (0, size, 2 * size)[int(rng.integers(3))] :]


def swap(rng: np.random.Generator, files: list[bytes]) -> bytes:
    a, b, c, d = sorted(int(place) for place in rng.integers(len(files[0]), size=4))
    data = files[0]
    return data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def extreme(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """A length field, or whatever stands there, with a value at the edge."""
    width = int(rng.choice([1, 2, 4, 8]))
    at = int(rng.choice([0, rng.integers(len(files[0]) - width)]))
    value = int(EXTREMES[int(rng.integers(len(EXTREMES)))]) % 2 ** (8 * width)
    written = value.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return files[0][:at] + written + files[0][at + width :]


def odd_number(rng: np.random.Generator) -> Any:
    return ODD_NUMBERS[int(rng.integers(len(ODD_NUMBERS)))]


def edit_header(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """A safetensors header with one or two entries changed, and the right length before it."""
    whole, data = pack_safetensors(numbers(0))
    header, names = dict(whole), [name for name in whole if name != "__metadata__"]
    for name, other in rng.choice(names, (int(rng.integers(1, 3)), 2), replace=False).tolist():
        entry = dict(whole[name])
        which = int(rng.integers(9))
        if which == 0:
            entry["dtype"] = str(rng.choice(["F16", "BF16", "F64", "I32", "U32", "BOOL", "C64", "F8_E4M3", "f32", ""]))
        elif which == 1:
            entry["shape"] = list(entry["shape"])
            entry["shape"][int(rng.integers(len(entry["shape"])))] = odd_number(rng)
        elif which == 2:
            entry["shape"] = [*reversed(entry["shape"])] if rng.random() < 0.5 else [*entry["shape"], odd_number(rng)]
        elif which == 3:
            entry["data_offsets"] = list(entry["data_offsets"])
            entry["data_offsets"][int(rng.integers(2))] = odd_number(rng)
        elif which == 4:
            entry["data_offsets"] = whole[other]["data_offsets"]
        elif which == 5:
            header[f"transformer.{other}"] = whole[other]
        elif which == 6:
            header[str(rng.choice(["h.1.ln_1.bias", "score.weight", "\x1b[2J", "../x", ""]))] = header.pop(name)
            continue
        elif which == 7:
            entry.pop(str(rng.choice(["dtype", "shape", "data_offsets"])), None)
        else:
            header["__metadata__"] = odd_number(rng)
        header[name] = entry
    return safetensors_file(header, data, None if rng.random() < 0.8 else int(rng.choice(EXTREMES[:10])))


def duplicate_entry(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """A safetensors header with a name twice, a `__metadata__` twice, or nested as deep as it gets."""
    header, data = pack_safetensors(numbers(0))
    name, other = (str(name) for name in rng.choice([name for name in header if name != "__metadata__"], 2))
    twin = json.dumps({name: header[other]})[1:-1]
    text = json.dumps(header)
    forms = (
        f"{{{twin}, {text[1:]}",
        f"{text[:-1]}, {twin}}}",
        f'{text[:-1]}, "__metadata__": {{}}}}',
        text.replace('"pt"', "[" * int(rng.integers(1, 3000))),
        text.replace('"pt"', '"\\ud800"'),
    )
    return safetensors_file(forms[int(rng.integers(len(forms)))].encode(), data)


def other_type(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """The same weights in another of the floating-point types: read right, never refused."""
    kind = str(rng.choice(["float16", "float64", "float32"]))
    changed = {path: value.astype(kind) for path, value in numbers(int(rng.integers(1000))).items()}
    return safetensors_file(*pack_safetensors(changed))


def edit_tree(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """A msgpack tree with an array, a name or a branch changed."""
    tree = tree_of(numbers(0))
    body = tree["transformer"]
    branch = (body["h"]["0"]["attn"]["c_attn"], body["wte"], body["ln_f"], body["h"]["0"]["mlp"]["c_proj"])[
        int(rng.integers(4))
    ]
    leaf = str(rng.choice([*branch]))
    shape, kind, values = branch[leaf]
    which = int(rng.integers(10))
    if which == 0:
        branch[leaf] = [
            shape,
            str(rng.choice(["float16", "bfloat16", "int32", "object", "O", "V9", "f4,f4", ""])),
            values,
        ]
    elif which == 1:
        branch[leaf] = [[*shape[:-1], odd_number(rng)], kind, values]
    elif which == 2:
        branch[leaf] = [[*reversed(shape)] if rng.random() < 0.5 else b"\4\4", kind, values]
    elif which == 3:
        branch[leaf] = [shape, kind, values[: int(rng.integers(len(values)))]]
    elif which == 4:
        branch[leaf] = (None, 3, "x", [1, 2], msgpack.ExtType(1, b""), {}, {"0": None})[int(rng.integers(7))]
    elif which == 5:
        branch[str(rng.choice(["scale", "weight", "kernel", "x/y", "\x1b]0;"]))] = branch.pop(leaf)
    elif which == 6:
        branch[leaf] = packed_array([shape, kind, values], int(rng.integers(5)))
    elif which == 7:
        branch[7 if rng.random() < 0.5 else b"bias"] = branch[leaf]
    elif which == 8:
        body["h"]["0.ln_1"] = body["h"]["0"].pop("ln_1")
    else:
        return msgpack_file(tree["transformer"])  # as the body alone was saved: right
    return msgpack_file(tree)


def chunked(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """An array in chunks, as flax writes those above a gigabyte; right or not quite."""
    tree = tree_of(numbers(0))
    shape, kind, values = tree["transformer"]["wte"]["embedding"]
    cut = 4 * int(rng.integers(len(values) // 4))
    chunks = {"0": [[cut // 4], kind, values[:cut]], "1": [[len(values) // 4 - cut // 4], kind, values[cut:]]}
    sizes: dict[str, Any] = {str(i): size for i, size in enumerate(shape)}
    which = int(rng.integers(5))
    if which == 0:
        sizes[str(rng.integers(3))] = odd_number(rng)
    elif which == 1:
        chunks[str(rng.integers(1, 4))] = chunks.pop("0")
    elif which == 2:
        chunks["1"] = chunks["0"]
    tree["transformer"]["wte"]["embedding"] = {"__msgpack_chunked_array__": True, "shape": sizes, "chunks": chunks}
    return msgpack_file(tree)


def bomb(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """Headers of lists or maps inside each other, each of which claims to be as long as the file allows."""
    depth = int(rng.integers(1, 2000))
    header = bytes([int(rng.choice([0xDD, 0xDF, 0xC9, 0xDB, 0xC6]))]) + int(
        rng.choice([2**32 - 1, 10**6, 5 * depth])
    ).to_bytes(4, "big")
    return header * depth + rng.bytes(20)


def twice(rng: np.random.Generator, files: list[bytes]) -> bytes:
    """A map with a name twice: the size in its header raised, and one more entry behind it."""
    name = str(rng.choice(["wte", "wpe", "ln_f"]))
    own, other = tree_of(numbers(0)), tree_of(numbers(1))
    body = msgpack_file(own["transformer"])
    entry = msgpack_file({name: other["transformer"][name]})[1:]
    return bytes([0x81]) + msgpack.packb("transformer") + bytes([body[0] + 1]) + body[1:] + entry


COMMON: list[Spoil] = [flip, flip, flip_head, flip_head, truncate, lengthen, splice, splice, swap, extreme]
SPOILS: dict[str, list[Spoil]] = {
    "safetensors": [*COMMON, edit_header, edit_header, edit_header, duplicate_entry, other_type],
    "msgpack": [*COMMON, edit_tree, edit_tree, chunked, bomb, twice],
}


def whole_files(kind: str) -> list[bytes]:
    if kind == "safetensors":
        return [safetensors_file(*pack_safetensors(numbers(seed))) for seed in (0, 1)]
    return [msgpack_file(tree_of(numbers(seed))) for seed in (0, 1)]


# One file.


def expected(kind: str, data: bytes) -> dict[str, np.ndarray]:
    """By the independent reader, under the library's paths; an error where it doesn't hold just this body."""
    found = read_safetensors(data) if kind == "safetensors" else read_msgpack(data)
    mark = "." if kind == "safetensors" else "/"
    plain = {name.removeprefix(f"transformer{mark}"): value for name, value in found.items()}
    if len(plain) < len(found):
        raise ValueError("with and without prefix")
    wanted = {}
    for path, shape in SHAPES.items():
        if kind == "safetensors":
            value = plain[torch_key(path)]
        else:
            value = plain[path.removeprefix("transformer/")]
            value = value.T if path.endswith("/kernel") else value
        if value.shape != shape:
            raise ValueError(f"{path} has another shape")
        wanted[path] = value
    return wanted


def loaded(file: Path) -> dict[str, np.ndarray] | str:
    """By the library: weights, or the line that refuses them."""

    def fetch(name: str) -> Path | None:
        return file if name == file.name else None

    try:
        return read_weights(fetch, SHAPES, "a model")[0]
    except UserError as error:
        return str(error)


def fault(kind: str, file: Path, must_load: bool) -> str | None:
    """What is wrong about how the library takes a file; None where all is well."""
    found = loaded(file)
    if isinstance(found, str):
        named = found.startswith("a model") and file.name in found and found.isprintable() and len(found) < 1000
        return None if named and not must_load else f"refused with: {found}"
    try:
        wanted = expected(kind, file.read_bytes())
    except Exception as error:
        return f"loaded, but {type(error).__name__}: {error}"
    if set(found) != set(wanted):
        return "other paths"
    for path, value in found.items():
        if value.dtype != np.float32 or value.shape != wanted[path].shape:
            return f"{path} is {value.dtype} {value.shape}"
        if np.ascontiguousarray(value).tobytes() != np.ascontiguousarray(wanted[path]).tobytes():
            return f"{path} has other numbers"
    return None


def main(kind: str, count: int, folder: Path) -> dict[str, Any]:
    files, file = whole_files(kind), folder / NAMES[kind]
    in_numbers = len(files[0]) - len(pack_safetensors(numbers(0))[1]) if kind == "safetensors" else None
    told: dict[str, Any] = {"files": 0, "loaded": 0, "refused": 0, "wrong": []}
    for data in files:
        file.write_bytes(data)
        told["wrong"] += [found] if (found := fault(kind, file, must_load=True)) else []
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(count):
        rng = np.random.default_rng([number, 0xF022])
        spoil = SPOILS[kind][number % len(SPOILS[kind])]
        must_load = spoil is other_type
        data = spoil(rng, files)
        if in_numbers and number % 20 == 0:
            data, must_load = flip(rng, files, in_numbers), True
        file.write_bytes(data)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        if found := fault(kind, file, must_load):
            told["wrong"].append(f"{number} ({spoil.__name__}): {found}")
        told["loaded" if isinstance(loaded(file), dict) else "refused"] += 1
        told["files"] += 1
    faulthandler.cancel_dump_traceback_later()
    told["grown"] = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return told


if __name__ == "__main__":
    faulthandler.enable()
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
