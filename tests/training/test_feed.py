"""Batches of cached output, and training on them, are the same bytes from the host and from a copy on the device."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support import tiny
from support.exactness import assert_same_bytes
from support.frozen_layers import folder, read, setup_of

from flax_agnews.data.batches import PADDING
from flax_agnews.training import feed
from flax_agnews.training.feed import Feed, collect, copied, one_late, stays_on_device
from flax_agnews.training.memory import free_bytes
from flax_agnews.training.program import Program

__all__ = ["folder"]  # fixtures
GB = 10**9


@pytest.fixture
def on_device(monkeypatch):
    """Cached output stays on the device, though that is a CPU."""
    monkeypatch.setattr(feed, "stays_on_device", lambda *known: True)


# Where


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (("gpu", 1, "jit", 11 * GB, 58 * GB), True),  # 67,637 texts of AG News in float32, on 80 GB
        (("gpu", 1, "jit", 11 * GB, 21 * GB), False),  # half is left to training
        (("gpu", 1, "jit", 11 * GB, 22 * GB), True),
        (("gpu", 1, "jit", 1, None), False),
        (("gpu", 2, "jit", 1, 58 * GB), False),
        (("gpu", 1, "pmap", 1, 58 * GB), False),
        (("tpu", 1, "jit", 1, 58 * GB), True),
        (("cpu", 1, "jit", 1, 58 * GB), False),
    ],
)
def test_a_copy_stays_on_one_accelerator_with_room(case, expected):
    assert stays_on_device(*case) == expected


def test_free_memory_is_what_this_process_may_still_use():
    stats = {"bytes_limit": 60 * GB, "bytes_in_use": 2 * GB, "peak_bytes_in_use": 3 * GB}
    assert free_bytes(SimpleNamespace(memory_stats=lambda: stats)) == 58 * GB
    assert free_bytes(SimpleNamespace(memory_stats=lambda: {"bytes_in_use": 1})) is None
    assert free_bytes(jax.local_devices()[0]) is None  # a CPU doesn't say


# Batches


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_are_collected_and_padding_is_zero(dtype):
    rng = np.random.default_rng(0)
    table = rng.standard_normal((9, 4)).astype(jnp.dtype(dtype))
    rows, text = rng.integers(0, 9, (2, 3, 5), dtype=np.int32), rng.integers(PADDING, 3, (2, 3, 5), dtype=np.int32)
    expected = np.zeros((2, 3, 5, 4), table.dtype)
    for place in np.ndindex(rows.shape):
        if text[place] != PADDING:
            expected[place] = table[rows[place]]
    assert_same_bytes(collect(*map(jnp.asarray, (table, rows, text))), expected)


@pytest.mark.parametrize("part", [1, 96, 100, 1 << 20])  # bytes; a row has 16
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_array_is_copied_whole_in_parts(monkeypatch, tmp_path, part, dtype):
    monkeypatch.setattr(feed, "_PART", part)
    values = np.random.default_rng(0).standard_normal((13, 4)).astype(jnp.dtype(dtype))
    kept = np.memmap(tmp_path / "kept", values.dtype, "w+", shape=values.shape)
    kept[:] = values
    assert_same_bytes(copied(kept, tiny.devices()), values)


@pytest.mark.parametrize("name", ["partial", "head"])  # hidden states of tokens, and one vector a text
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_batches_are_the_same_bytes_from_either_source(on_device, name, dtype):
    where = tiny.devices()
    inputs, _ = read(setup_of(name), seeds=(0, 1), micro_batch_tokens=200, cache_dtype=dtype, parallel_seeds=2)
    ours, plain = Feed.of(inputs.batches, where), Feed(inputs.batches, where)
    assert ours.table is not None
    for step in range(inputs.batches.steps_per_epoch):
        for seeds in ([1], [0, 1]):
            (shape, batch), (same, expected) = (each.batches.joint_batch(seeds, 1, step) for each in (ours, plain))
            assert batch.ids.dtype == np.int32
            assert shape == same
            assert_same_bytes(ours.place(batch), plain.place(expected))
    evaluated = inputs.evaluated["test"]
    ours = Feed.of(evaluated, where)
    for (rows, shape, batch), (same_rows, same, expected) in zip(ours.batches, evaluated, strict=True):
        assert (shape, rows.tolist()) == (same, same_rows.tolist())
        assert_same_bytes(ours.place(batch), where.batch(expected))
    assert np.shares_memory(inputs.batches.data.ids, plain.batches.data.ids)  # what others read is as it was


def test_token_ids_come_from_the_host(on_device):
    inputs, _ = read(setup_of("partial"), cache_frozen="off")
    assert Feed.of(inputs.batches, tiny.devices()).table is None


# Training


def trained(name, seeds, **train):
    """State, metrics and logits of ten updates over two epochs, and whether programs read from the device."""
    setup, where = setup_of(name), tiny.devices()
    inputs, _ = read(setup, where, seeds=seeds, parallel_seeds=len(seeds), cache_frozen="on", **train)
    shared = where.shared(dict(setup.model.base.parameters))
    program = Program(setup, where, shared, inputs, group_sizes=[len(seeds)], compiler=tiny.compiler(where))
    state, frozen = program.start_together(seeds)
    found = []
    for number in range(10):
        state, metrics = program.train_together(state, frozen, seeds, *divmod(number, program.batches.steps_per_epoch))
        found.append(jax.tree.map(np.array, metrics))
    one, own = program.alone(state, frozen, 0, len(seeds))
    logits = [program.evaluate(one.params, own, split) for split in ("validation", "test", "validation")]
    return state, found, logits


@pytest.mark.parametrize(
    ("name", "seeds", "micro"), [("partial", (0,), 100), ("partial", (0, 1), 16384), ("head", (0,), 16384)]
)
def test_training_from_the_device_is_training_from_the_host(monkeypatch, name, seeds, micro):
    copies = []
    plain = trained(name, seeds, micro_batch_tokens=micro)
    monkeypatch.setattr(feed, "stays_on_device", lambda *known: True)
    monkeypatch.setattr(feed, "copied", lambda *given: copies.append(copied(*given)) or copies[-1])
    assert_same_bytes(trained(name, seeds, micro_batch_tokens=micro), plain)
    assert len(copies) == 3  # the splits, each once


# Reading


def test_a_result_is_read_once_the_next_one_is_begun():
    order = []

    def begin():
        for number in range(3):
            order.append(f"begin {number}")
            yield number

    for number in one_late(begin()):
        order.append(f"read {number}")
    assert order == ["begin 0", "begin 1", "read 0", "begin 2", "read 1", "read 2"]
    assert list(one_late([])) == []
    assert list(one_late(iter("a"))) == ["a"]
