"""Rows, settings and lengths drawn at random come back as they were, or one line says why not."""

import itertools
import tempfile
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import jax
import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.source_files import SUFFIXES, load, named_pairs, write

from flax_agnews.cli import arguments as cli
from flax_agnews.config import Config, Fields
from flax_agnews.data.batches import EvalBatches, TrainBatches
from flax_agnews.data.tokens import Ragged
from flax_agnews.errors import UserError
from flax_agnews.runs.output_folder import OutputFolder, config_dict
from flax_agnews.runs.recorded_paths import recorded
from flax_agnews.strategies import REGISTRY

# Drawing may be slow where other work has the cores.
steady = settings(derandomize=True, deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
letters = st.characters(exclude_categories=["Cs"])  # half of a surrogate pair is no text
texts = st.text(letters, max_size=30)


class Refused(str):
    """The line of a `UserError`."""


def answer(call: Callable[[], Any]) -> Any:
    """What a call gives, or the line that it is refused with; no other error."""
    try:
        return call()
    except UserError as error:
        line = Refused(error)
    assert line.isprintable()  # so it is one line
    assert 0 < len(line) < 2000
    return line


# Data readers


@pytest.mark.parametrize("suffix", SUFFIXES)
@steady
@given(
    st.lists(st.tuples(texts, st.integers(0, 5)), min_size=2, max_size=8).filter(lambda r: len({y for _, y in r}) > 1),
    st.lists(texts.filter(str.strip), min_size=2, max_size=2, unique=True),
)
@example([("", 0), ("\0", 1), ('"', 1), ("\r", 0), ("a\r\nb\n", 1), ("\ufeff", 0)], ["text", "la,bel"])
def test_rows_come_back_whatever_the_columns_are_called(suffix: str, rows: list[Any], columns: list[str]) -> None:
    names = {"text_column": columns[0], "label_column": columns[1]}
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a{suffix}", rows, columns=tuple(columns))
        corpus = answer(lambda: load(path, test_source=str(path), validation_fraction=0.5, **names))
    if isinstance(corpus, Refused):  # a byte order mark belongs to the file, so no column's name begins with one
        assert columns[0].startswith("\ufeff")
    else:
        assert named_pairs(corpus, corpus.test) == rows
        assert sorted(named_pairs(corpus, corpus.train) + named_pairs(corpus, corpus.validation)) == sorted(rows)


values = st.none() | st.booleans() | st.integers() | st.floats() | texts | st.lists(st.integers(), max_size=2)


@pytest.mark.parametrize("suffix", SUFFIXES)
@steady
@given(st.lists(st.tuples(texts | values, st.sampled_from(["a", "b"]) | values), min_size=1, max_size=4))
def test_rows_of_anything_are_texts_and_classes_or_one_line(suffix: str, rows: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = write(Path(folder) / f"a{suffix}", rows)
        except (pa.ArrowException, OverflowError):  # a column of Parquet is of one type
            return
        corpus = answer(lambda: load(path, test_source=str(path), validation_fraction=0.5))
    if isinstance(corpus, Refused):
        return
    told = (lambda value: "" if value is None else str(value)) if suffix == ".csv" else (lambda value: value)
    assert corpus.test.texts == [told(text) for text, _ in rows]
    for (_, label), number in zip(rows, corpus.test.labels.tolist(), strict=True):
        name = corpus.classes[number]
        assert name == str(label) or float(name) == float(label)


@pytest.mark.parametrize("suffix", SUFFIXES)
@steady
@given(st.binary(max_size=80), st.integers(0, 10**6), st.integers(0, 80))
def test_a_spoiled_file_is_read_or_refused_in_one_line(suffix: str, piece: bytes, place: int, gone: int) -> None:
    rows = [(f"text, number {row}\n", row % 3) for row in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / f"a{suffix}", rows)
        content = path.read_bytes()
        place %= len(content)
        path.write_bytes(content[:place] + piece + content[place + gone :])
        corpus = answer(lambda: load(path, test_source=str(path)))
    if isinstance(corpus, Refused):
        assert str(path) in corpus
    else:
        assert len(corpus.test.texts) == len(corpus.test.labels)


# Configuration

SHARES = {
    *("validation_fraction", "test_fraction", "dropout", "warmup_fraction", "label_smoothing"),
    *("frozen_fraction", "share"),
}
"""Settings that are below 1."""

OF_A_START = {"coordinator", "processes", "process", "start_seconds"}
"""Settings that say which of how many processes this is: the folder doesn't keep them."""


def setting(name: str, kind: Any) -> st.SearchStrategy[Any]:
    """Values of a setting by its annotation, inside its range."""
    if name == "shard":
        return st.sampled_from(["1/1", "2/4"])
    if get_origin(kind) is Literal:
        return st.sampled_from(get_args(kind))
    if get_origin(kind) is dict:
        return st.fixed_dictionaries({"n_layer": st.integers(1, 9), "embd_pdrop": st.floats(0, 0.9)})
    if name == "delimiter":
        return st.sampled_from([None, ";", "|", "tab"])
    if kind == str | None:  # a text that means no value is none
        return st.none() | texts.map("./".__add__)
    if kind == str | list[str]:  # a text in brackets is a list
        names = texts.map("x".__add__)
        return names | st.lists(names, min_size=2, max_size=2, unique=True)
    if arguments := get_args(kind):
        return st.one_of(*(setting(name, argument) for argument in arguments))
    numbers = st.floats(0.001, 0.999) if name in SHARES else st.floats(1e-9, 1e9)
    # A pair has three tokens at least, and a grid fifteen factors at most.
    whole = st.integers(3 if name == "max_length" else 2, 15 if name == "trials" else 63)
    return {bool: st.booleans(), int: whole, float: numbers, str: texts, type(None): st.none()}[kind]


def section(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind) | {"from_config": Fields | None}  # a path would be read
    names = [field.name for field in fields(kind) if field.name not in OF_A_START]
    return st.builds(kind, **{name: setting(name, hints[name]) for name in names})


SECTIONS = {name: kind for name, kind in get_type_hints(Config).items() if is_dataclass(kind)}


@st.composite
def configurations(draw: Any) -> Config:
    names = draw(st.lists(st.sampled_from([entry.name for entry in REGISTRY]), min_size=1, max_size=3, unique=True))
    strategies = {name: draw(section(REGISTRY[name].settings)) for name in names}
    sections = {name: draw(section(kind)) for name, kind in SECTIONS.items()}
    return Config(strategy=",".join(names), output=draw(texts), strategies=strategies, **sections)


@settings(steady, max_examples=30)
@given(configurations())
def test_a_configuration_comes_back_from_the_folder_it_was_written_to(config: Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        OutputFolder(Path(folder)).claim(config)
        again = cli.parse(["--config", str(Path(folder) / "config.yaml")]).config
        OutputFolder(Path(folder)).check(again)
    assert config_dict(again) == recorded(config_dict(config))


KINDS = SECTIONS | {entry.name: entry.settings for entry in REGISTRY}
NAMES = [f"{name}.{field.name}" for name, kind in KINDS.items() for field in fields(kind)]
NAMES += ["model.from_config.n_embd", "strategy", "output", "config", *KINDS]

ODD = [
    "",
    "null",
    "-1",
    "0",
    "1e3",
    "nan",
    "inf",
    "-inf",
    "[",
    "{a: 1}",
    "[1]",
    "*a",
    "&a [*a]",
    "!!python/name:os.fork",
]
ODD += [
    "9" * 5000,
    "[" * 2000,
    "2001-99-99",
    "!!bool x",
    "~nobody-here",
    "\0",
    "1_0",
    "0x10",
    "true",
    "~",
    "- a",
    "a: b",
]


@settings(steady, max_examples=80)
@given(
    st.sampled_from(NAMES),
    st.sampled_from(ODD) | texts | st.integers().map(str) | st.floats().map(str),
    st.booleans(),
)
def test_any_value_of_a_flag_is_taken_or_refused_in_one_line(name: str, value: str, joined: bool) -> None:
    flags = [f"--{name}={value}"] if joined or value.startswith("-") else [f"--{name}", value]
    request = answer(lambda: cli.parse(flags))
    if isinstance(request, Refused):
        assert name.split(".")[0] in request or "a value can't be read" in request
    else:
        assert request.entries


anything = st.recursive(
    values,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts | st.integers(), inner, max_size=2),
    max_leaves=4,
)


@settings(steady, max_examples=50)
@given(st.dictionaries(st.sampled_from(NAMES) | texts, anything, max_size=3))
def test_any_file_of_settings_is_taken_or_refused_in_one_line(content: dict[str, Any]) -> None:
    nested: dict[str, Any] = {}
    for name, value in content.items():
        head, _, rest = name.partition(".")
        inside = nested.setdefault(head, {}) if rest else None
        if isinstance(inside, dict):
            inside[rest] = value
        else:
            nested[head] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_text(yaml.safe_dump(nested, allow_unicode=True), "utf-8")
        answer(lambda: cli.parse(["--config", str(path)]))


@settings(steady, max_examples=40)
@given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
def test_a_file_of_settings_may_hold_any_bytes(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.yaml"
        path.write_bytes(content)
        request = answer(lambda: cli.parse(["--config", str(path)]))
    assert not isinstance(request, Refused) or str(path) in request


# Batcher


def numbered(lengths: list[int]) -> Ragged:
    """Texts of these lengths in which no two tokens are alike: token k of the corpus is k."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Ragged(np.arange(offsets[-1], dtype=np.int32), offsets)


def tokens_by_text(batch: Any) -> list[list[int]]:
    """The tokens of each text of a batch [devices, micro_batches, ...], in their order; none without a text."""
    found = []
    for place in np.ndindex(batch.ids.shape[:2]):
        ids, text, position = batch.ids[place], batch.text[place], batch.position[place]
        used = np.flatnonzero(batch.weight[place])
        assert set(text[text >= 0]) == set(used)
        for slot in used:
            own = np.flatnonzero(text == slot)
            assert position[own].tolist() == list(range(len(own)))
            assert own[-1] == batch.last[place][slot]
            found.append(ids[own].tolist())
    return found


plans = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 50),
        "seeds": st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True),
        "epochs": st.integers(1, 2),
        "devices": st.sampled_from([1, 2, 3, 4, 8]),
        "micro_batch_tokens": st.sampled_from([16384, 700, 100, 1]),
        "most_shapes": st.integers(1, 7),
        "together": st.integers(1, 4),
    }
)
corpora = st.lists(st.integers(1, 300), min_size=1, max_size=30)


@settings(steady, max_examples=40)
@given(corpora, plans)
def test_an_epoch_of_any_plan_has_every_token_once(lengths: list[int], plan: dict[str, Any]) -> None:
    """Also of seeds that train together, whose batches share a shape."""
    data, labels = numbered(lengths), np.arange(len(lengths), dtype=np.int32)
    whole = [data[text].tolist() for text in range(len(lengths))]
    batches = TrainBatches(data, labels, **plan)
    assert sorted(itertools.chain(*batches.groups)) == sorted(plan["seeds"])
    for group, epoch in itertools.product(batches.groups, range(plan["epochs"])):
        seen: dict[int, list[list[int]]] = {seed: [] for seed in group}
        for step in range(batches.steps_per_epoch):
            shape, joint = batches.joint_batch(group, epoch, step)
            assert shape in batches.shapes
            for lane, seed in enumerate(group):
                batch = joint if len(group) == 1 else jax.tree.map(lambda leaf, lane=lane: leaf[:, lane], joint)
                assert batch.ids.shape == (plan["devices"], shape.micro_batches, shape.tokens)
                held = tokens_by_text(batch)
                assert sorted(held) == sorted(whole[row] for row in batches.rows(seed, epoch, step))
                assert 0 < len(held) <= plan["batch_size"]
                seen[seed] += held
        assert all(sorted(texts) == whole for texts in seen.values())


@steady
@given(corpora, plans)
def test_evaluation_of_any_plan_has_every_token_once(lengths: list[int], plan: dict[str, Any]) -> None:
    data = numbered(lengths)
    how = [plan[key] for key in ("batch_size", "devices", "micro_batch_tokens")]
    batches = EvalBatches(data, np.zeros(len(lengths), np.int32), *how)
    seen = [text for _, shape, batch in batches for text in tokens_by_text(batch) if shape in batches.shapes]
    assert sorted(seen) == [data[text].tolist() for text in range(len(lengths))]
