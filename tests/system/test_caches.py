"""All caches together keep to one limit: what was used least recently goes, what is in use stays."""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flax_agnews.errors import UserError
from flax_agnews.system import caches, files
from flax_agnews.system.caches import KINDS, LIMIT, entries, folder_of, hold, make_room, mark_used, remove, sweep
from flax_agnews.system.caches import write_cached as write
from flax_agnews.system.files import draft_of


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of this test; its size is added up before every write."""
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(caches, "_RECENT", 0)
    return tmp_path / "cache"


def limited(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setenv(LIMIT, str(size / 1e9))


def put(kind: str, name: str, size: int, age: float) -> Path:
    """A cached file, or below `activations` and `adapted` a folder of two, which was used `age` seconds ago."""
    path = folder_of(kind) / name
    if kind in ("activations", "adapted"):
        path.mkdir(parents=True)
        (path / "one").write_bytes(bytes(size // 2))
        (path / "two").write_bytes(bytes(size - size // 2))
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age,) * 2)
    return path


def names(cache: Path) -> set[str]:
    """`kind/name` of everything in the cache, temporary files too."""
    return {str(path.relative_to(cache)) for path in cache.glob("*/*")}


def test_entries_have_the_size_and_last_use_of_their_files(cache: Path) -> None:
    put("adapted", "a", 7, age=100)
    assert entries(folder_of("tokens")) == []
    [entry] = entries(folder_of("adapted"))
    assert (entry.path, entry.files, entry.size) == (cache / "adapted" / "a", 2, 7)
    assert time.time() - entry.used == pytest.approx(100, abs=10)
    mark_used(entry.path)
    [entry] = entries(folder_of("adapted"))
    assert time.time() - entry.used == pytest.approx(0, abs=10)
    mark_used(cache / "adapted" / "b")
    assert names(cache) == {"adapted/a"}


def test_the_oldest_of_all_kinds_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for age, kind in enumerate(KINDS):
        put(kind, "entry", 100, age=1000 - 10 * age)
    limit = 100 * len(KINDS)
    limited(monkeypatch, limit)
    assert make_room(0)
    assert len(names(cache)) == len(KINDS)
    mark_used(folder_of("tokens") / "entry")  # the oldest until now
    write(folder_of("compiled") / "new", bytes(150))
    oldest = {f"{kind}/entry" for kind in list(KINDS)[1:3]}
    assert names(cache) == {f"{kind}/entry" for kind in KINDS} - oldest | {"compiled/new"}
    assert sum(entry.size for kind in KINDS for entry in entries(folder_of(kind))) <= limit


def test_what_has_to_stay_stays_and_nothing_goes_in_vain(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, young = put("activations", "old", 100, age=1000), put("tokens", "young", 100, age=10)
    limited(monkeypatch, 250)
    assert not make_room(251)
    assert not make_room(200, kept=[old])
    assert make_room(200, at_least=400)
    with (old / "two").open("rb") as file:
        hold(file.fileno())
        assert not make_room(200)
        assert not remove(entries(old.parent)[0])
        assert names(cache) == {"activations/old", "tokens/young"}
        assert make_room(150)
        assert names(cache) == {"activations/old"}
    put("tokens", "young", 100, age=10)
    assert make_room(150, kept=[young])
    assert names(cache) == {"tokens/young"}


def test_a_process_in_which_a_file_is_mapped_keeps_it_in_use(cache: Path) -> None:
    put("activations", "key", 100, age=1000)
    script = (
        "import sys, numpy as np; from flax_agnews.system.caches import hold\n"
        "with open(sys.argv[1], 'rb') as file: hold(file.fileno()); array = np.memmap(file, 'u1', 'r')\n"
        "print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, cache / "activations" / "key" / "one"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        [entry] = entries(folder_of("activations"))
        assert not remove(entry)
        process.kill()
    assert remove(entry)
    assert names(cache) == set()
    assert remove(entry)  # it is gone, whoever removed it


def test_small_writes_do_not_add_up_all_sizes_again(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "_RECENT", 1000)
    limited(monkeypatch, 1000)
    counted: list[Path] = []
    monkeypatch.setattr(caches, "entries", lambda folder: counted.append(folder) or entries(folder))
    for number in range(40):
        write(folder_of("compiled") / str(number), bytes(50))
        assert sum(entry.size for entry in entries(folder_of("compiled"))) <= 1000
    assert 0 < len(counted) < 40 * len(KINDS)


@pytest.mark.parametrize("given", ["x", "-1", "nan"])
def test_a_limit_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, given)
    with pytest.raises(UserError, match=f"^{LIMIT}={given}: must be a number of gigabytes, 0 or more$"):
        make_room(1)


def test_limits(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    assert caches.limit() == 20e9
    monkeypatch.setenv(LIMIT, "1.5")
    assert caches.limit() == 1.5e9
    monkeypatch.setenv(LIMIT, "0")
    write(folder_of("compiled") / "key", b"content")
    assert names(cache) == set()


@pytest.mark.parametrize("inside", [False, True])
def test_temporary_files_of_killed_processes_are_removed(cache: Path, inside: bool) -> None:
    """Not those of processes that run, nor young ones, which another machine's process may write."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    target = put("activations", "key", 10, age=1) / "values" if inside else put("tokens", "key", 10, age=1)
    ours = draft_of(target)
    name = ours.name.replace(f".{os.getpid()}-", f".{ended.pid}-")
    dead, young = ours.with_name(name), ours.with_name(f"{name[:-12]}00000000.tmp")
    for path in (ours, dead, young):
        path.write_bytes(bytes(10))
        os.utime(path, (time.time() - (0 if path == young else 10_000),) * 2)
    before = len(list(cache.rglob("*")))
    assert make_room(0)
    assert not dead.exists()
    assert ours.exists()
    assert young.exists()
    assert len(list(cache.rglob("*"))) == before - 1
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pass
    gone = folder_of("adapted") / f".key.{ended.pid}.gone"  # as `runs.sealed.discard` names it
    gone.mkdir(parents=True)
    os.utime(gone, (time.time() - 10_000,) * 2)
    sweep(folder_of("adapted"))
    assert not gone.exists()


@pytest.mark.parametrize("place", ["write_bytes", "sync", "replace"])
def test_a_write_that_fails_leaves_nothing_and_is_no_error(
    place: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path, *rest: object) -> None:
        if place == "write_bytes":
            with path.open("wb") as file:
                file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    owner = {"write_bytes": Path, "sync": files, "replace": files.os}[place]
    with monkeypatch.context() as patch:
        patch.setattr(owner, place, fail)
        write(folder_of("compiled") / "key", b"content")
    assert names(cache) == set()
    write(folder_of("compiled") / "key", b"content")
    assert (cache / "compiled" / "key").read_bytes() == b"content"


def test_a_cache_folder_that_is_none(cache: Path) -> None:
    cache.write_text("")
    write(folder_of("compiled") / "key", b"content")
    assert make_room(1)
    assert cache.read_text() == ""
