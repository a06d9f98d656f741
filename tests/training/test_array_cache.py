"""Files of cached activations are shared, checked, written again where they are damaged, and limited in size."""

import errno
import gc
import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from support import tiny
from support.frozen_layers import CONFIG, DATA, DEPTHS, contents, folder, read, setup_of

from flax_agnews.config import Config, ModelConfig, TrainConfig
from flax_agnews.errors import UserError
from flax_agnews.system import caches
from flax_agnews.training import array_cache
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.frozen_layers import Trunk
from flax_agnews.training.observer import Interrupted, Observer

__all__ = ["folder"]  # a fixture


class Heard(Observer):
    """Keeps all that is told."""

    def __init__(self):
        self.notes, self.begun, self.steps, self.finished = [], [], [], 0

    def note(self, text):
        self.notes.append(text)

    def caching(self, text):
        self.begun.append(text)

    def step(self, done, tokens_per_second):
        self.steps.append(done)

    def cached(self):
        self.finished += 1


def test_strategies_with_the_same_prefix_share_it(folder):
    first, second, third = Heard(), Heard(), Heard()
    read(setup_of("partial"), told=first)
    before = contents(folder)
    assert len(before) == 3
    other = tiny.prepare(
        tiny.build("partial", CONFIG, top_layers=2, learning_rate=1.0), setup_of("partial").model.base, dropout=0.3
    )
    ours, _ = read(other, told=second, seeds=(5, 6), epochs=1)
    assert ours.batches.data.depth == 2
    assert contents(folder) == before
    assert (len(first.begun), first.finished, second.begun, second.steps) == (1, 1, [], [])
    size = (
        sum(map(len, map(np.ndarray.tobytes, (s.tokens.ids for s in (DATA.train, DATA.validation, DATA.test)))))
    ) * 32
    assert sum(map(len, before.values())) == size  # 32 float32 for each int32
    assert f"{size / 1000:.0f} kB" in first.begun[0]
    assert str(folder) in first.begun[0]
    assert first.steps == sorted(first.steps)
    assert first.steps[-1] == 1
    assert first.notes == second.notes == []
    read(setup_of("three"), told=third)
    assert len(third.begun) == 1
    assert len(contents(folder)) == 6


def test_the_same_bytes_again(folder):
    read(setup_of("partial"))
    before = contents(folder)
    shutil.rmtree(folder)
    read(setup_of("partial"))
    assert contents(folder) == before


# Files that aren't what they should be


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


def _other(name, value):
    def change(path):
        about = path.with_name("about.json")
        about.write_text(json.dumps({**json.loads(about.read_text()), name: value}))

    return change


DAMAGE = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"0"),
    "a flipped bit": _flip,
    "gone": lambda path: path.unlink(),
    "without description": lambda path: path.with_name("about.json").unlink(),
    "no JSON": lambda path: path.with_name("about.json").write_text("{"),
    "a list": lambda path: path.with_name("about.json").write_text("[]"),
    "of another type": _other("dtype", "bfloat16"),
    "of another shape": _other("shape", [1, 2]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_made_anew(folder, damage):
    setup, heard = setup_of("partial"), Heard()
    read(setup)
    before = contents(folder)
    key = Trunk(setup.model.base, 2, setup.model.compute).key(DATA.validation.tokens, np.dtype("float32"))
    DAMAGE[damage](folder / key / "values")
    again, _ = read(setup, told=heard)
    assert heard.notes == [f"{folder / key} is damaged, and is made anew"]
    assert len(heard.begun) == 1
    assert contents(folder) == before
    assert again.evaluated["validation"].data.ids.tobytes() == before[key]
    assert sorted(path.name for path in (folder / key).iterdir()) == ["about.json", "values"]
    quiet = Heard()
    read(setup, told=quiet)
    assert quiet.notes == quiet.begun == []


def test_nothing_is_left_of_what_was_interrupted(folder):
    class Stop(Heard):
        def should_stop(self):
            return len(self.steps) == 2

    with pytest.raises(Interrupted):
        read(setup_of("partial"), told=Stop())
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    assert read(setup_of("partial"))[0].batches.data.depth == 2


# Room


def test_a_cache_that_does_not_fit_is_computed_anew(folder):
    heard = Heard()
    for place in ("file", "memory"):
        inputs, batches = read(setup_of("partial"), told=heard, cache_gigabytes=1e-5, cache_place=place)
        assert inputs.batches is batches
        assert (inputs.batches.data.depth, inputs.seconds) == (0, 0)
    assert len(heard.notes) == 2
    assert all(
        note.startswith("partial: frozen layers are computed in every epoch, not cached: ") for note in heard.notes
    )
    assert heard.begun == []
    assert contents(folder) == {}


def test_a_full_disk_is_left_alone(folder, monkeypatch):
    monkeypatch.setattr(array_cache, "_SPARE", 10**18)  # no disk has as much
    heard = Heard()
    inputs, _ = read(setup_of("partial"), told=heard)
    assert inputs.batches.data.depth == 0
    assert "the disk of" in heard.notes[0]
    with pytest.raises(UserError, match=r"^train\.cache_frozen on: strategy partial: the disk of"):
        read(setup_of("partial"), cache_frozen="on")
    assert contents(folder) == {}


def test_on_is_refused_before_anything_is_computed_where_it_can_not_be(folder):
    def check(settings, names=("full", "partial"), **model):
        config = Config(train=TrainConfig(cache_frozen="on", **settings), model=ModelConfig(**model))
        setups = [tiny.prepare(tiny.build(name, CONFIG), tiny.random_base(CONFIG), **model) for name in names]
        Activations(config, DATA, tiny.devices()).check(setups)

    check({})
    check({"cache_gigabytes": 1e-5}, names=("full", "prompt"))
    check({}, dropout_frozen=True, dropout=0.0)
    for settings, model, told in (
        ({"cache_gigabytes": 1e-5}, {}, "strategy partial: .* above train.cache_gigabytes"),
        ({}, {"dropout_frozen": True, "dropout": 0.1}, "model.dropout_frozen"),
    ):
        with pytest.raises(UserError, match=f"^train.cache_frozen on: .*{told}") as caught:
            check(settings, **model)
        assert "\n" not in str(caught.value)
    assert not folder.exists()


def test_what_was_used_least_recently_makes_room(folder):
    bases = [tiny.random_base(CONFIG, seed) for seed in range(3)]
    setups = [tiny.prepare(tiny.build("partial", CONFIG), base) for base in bases]
    read(setups[0])
    first = set(contents(folder))
    gigabytes = 2.5 * sum(map(len, contents(folder).values())) / 1e9
    read(setups[1])
    second = set(contents(folder)) - first
    for age, keys in ((2000, first), (1000, second)):
        for key in keys:
            os.utime(folder / key, (time.time() - age,) * 2)
    heard = Heard()
    read(setups[0], told=heard)  # used again: now the second is the oldest
    read(setups[2], told=heard, cache_gigabytes=gigabytes)
    assert len(heard.begun) == 1
    left = set(contents(folder))
    assert first <= left
    assert len(left & second) < 3
    assert len(left - first - second) == 3
    assert sum(map(len, contents(folder).values())) <= gigabytes * 1e9


MAKE_ROOM = """
import sys
from pathlib import Path
from flax_agnews.training.array_cache import ArrayFolder, NoRoom
try:
    ArrayFolder(Path(sys.argv[1]), 1, print).make_room([], 1)
except NoRoom as reason:
    print(reason)
"""


@pytest.mark.parametrize("cached", [False, True])
def test_what_is_read_stays_when_another_process_makes_room(folder, cached):
    """Whether it was computed or opened; afterwards it is removed like any other."""
    if cached:
        read(setup_of("partial"))
    inputs, _ = read(setup_of("partial"))
    before, arrays = inputs.batches.data.ids.copy(), contents(folder)

    def make_room():
        done = subprocess.run([sys.executable, "-c", MAKE_ROOM, folder], capture_output=True, text=True, check=True)
        return done.stdout

    assert make_room().startswith("at most 1e-09 GB in ")
    assert contents(folder) == arrays
    assert (inputs.batches.data.ids == before).all()
    del inputs
    gc.collect()
    assert make_room() == ""
    assert contents(folder) == {}


def test_no_room_under_the_limit_of_all_caches(folder, monkeypatch):
    """Above `train.cache_gigabytes`, only that counts; below, what other kinds of cache can't give up does."""
    read(setup_of("partial"))
    size = sum(map(len, contents(folder).values()))
    (other := folder.parent / "tokens" / "key.npz").parent.mkdir(exist_ok=True)
    other.write_bytes(bytes(10 * size))
    monkeypatch.setenv("FLAX_AGNEWS_CACHE_GIGABYTES", str(1.5 * size / 1e9))
    heard = Heard()
    read(setup_of("three"), told=heard, cache_gigabytes=1.5 * size / 1e9)
    assert heard.notes == []
    assert not other.exists()
    assert 0 < sum(map(len, contents(folder).values())) <= 1.5 * size
    with monkeypatch.context() as patch, other.open("wb") as file:
        patch.setattr(caches, "_room", {})
        file.write(bytes(10 * size))
        file.flush()
        caches.hold(file.fileno())
        read(setup_of("head"), told=heard, cache_gigabytes=1.5 * size / 1e9)
    assert other.exists()
    [note] = heard.notes
    assert note.startswith("head: frozen layers are computed in every epoch, not cached: other entries ")


@pytest.mark.parametrize("fault", ["open", "flush", "replace"])
def test_an_array_that_can_not_be_written_leaves_nothing(folder, monkeypatch, fault):
    """Training goes on with the frozen layers computed in every epoch, or with the array for this process alone."""

    def fail(*arguments, **others):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    place, name = {
        "open": (array_cache, "_reserve"),
        "flush": (np.memmap, "flush"),
        "replace": (array_cache.os, "replace"),
    }[fault]
    heard = Heard()
    with monkeypatch.context() as patch:
        patch.setattr(place, name, fail)
        inputs, _ = read(setup_of("partial"), told=heard)
    assert [path for path in folder.rglob("*") if path.is_file()] == []
    if fault == "replace":
        assert (heard.notes, inputs.batches.data.depth) == ([], 2)
    else:
        [note] = heard.notes
        assert note.endswith("can't be written (No space left on device)")
        assert inputs.batches.data.depth == 0
    assert read(setup_of("partial"))[0].batches.data.depth == 2
    assert len(contents(folder)) == 3


def test_a_folder_that_can_not_be_written_means_memory(folder):
    kept, _ = read(setup_of("partial"))
    shutil.rmtree(folder)
    folder.write_text("")  # a file in its place: nobody, not even root, can write there
    heard = Heard()
    inputs, _ = read(setup_of("partial"), told=heard)
    assert len(heard.notes) == 1
    assert heard.notes[0].startswith(f"{folder} can't be written")
    assert inputs.batches.data.depth == 2
    assert inputs.batches.data.ids.tobytes() == kept.batches.data.ids.tobytes()
    memory, _ = read(setup_of("partial"), cache_place="memory")
    assert memory.batches.data.ids.tobytes() == kept.batches.data.ids.tobytes()
    assert folder.read_text() == ""


def test_memory_makes_room_too():
    where, size = tiny.devices(), sum(len(s.tokens.ids) for s in (DATA.train, DATA.validation, DATA.test)) * 32 * 4
    settings = TrainConfig(batch_size=8, epochs=1, cache_place="memory", cache_gigabytes=1.5 * size / 1e9)
    activations = Activations(Config(train=settings), DATA, where)
    batches = plan_batches(DATA.train, settings, [0], where)
    heard = Heard()
    for name in ("partial", "partial", "three", "three", "partial"):
        setup = setup_of(name)
        shared = where.shared(dict(setup.model.base.parameters))
        assert activations.inputs(setup, shared, batches, heard).batches.data.depth == DEPTHS[name]
    assert len(heard.begun) == 3
