"""The private names of other packages that we use are where they were, and behave as we count on."""

import importlib
import inspect
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import thread as pools
from contextlib import ExitStack

import pytest
from jax._src import config

from flax_agnews.training import private_apis
from flax_agnews.training.private_apis import (
    AUTOTUNED,
    compilation_cache,
    compilation_suffix,
    key_value_store,
    leave_background_pools,
    process_count,
    process_number,
    watch_compilation_cache,
)

EXECUTION = "orbax.checkpoint.experimental.v1._src.saving.execution"


def test_one_process_is_the_first_of_one_and_has_no_store():
    assert (process_count(), process_number(), key_value_store()) == (1, 0, None)


JOINED = """
import jax, socket
from flax_agnews.training.private_apis import *
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    where = f"127.0.0.1:{probe.getsockname()[1]}"
jax.distributed.initialize(where, num_processes=1, process_id=0, cluster_detection_method="deactivate")
store = key_value_store()
store.key_value_set("flax_agnews/1/0", '{"value": 7}')
assert store.blocking_key_value_get("flax_agnews/1/0", 500) == '{"value": 7}'
try:
    store.blocking_key_value_get("flax_agnews/2/0", 100)
except jax.errors.JaxRuntimeError as error:
    assert "DEADLINE_EXCEEDED" in str(error), error
else:
    raise AssertionError("a value that nobody has put")
assert (process_count(), process_number()) == (1, 0)
"""


def test_the_store_of_joined_processes_gives_what_was_put_and_says_when_nothing_was():
    done = subprocess.run([sys.executable, "-c", JOINED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_cache_of_compiled_programs_writes_by_the_function_that_is_given(tmp_path, monkeypatch):
    """And reports what it has read; a file that another process removes meanwhile is none."""
    programs = compilation_cache()
    assert list(inspect.signature(programs.put).parameters)[-2:] == ["key", "value"]
    assert list(inspect.signature(programs.get).parameters)[-1:] == ["key"]
    assert {"path", "max_size"} <= inspect.signature(programs).parameters.keys()
    theirs = {name: programs.__dict__[name] for name in ("put", "get")}
    for name, function in theirs.items():
        monkeypatch.setattr(programs, name, function)  # put back afterwards
    written, used = {}, []
    watch_compilation_cache(written.__setitem__, used.append)
    assert programs.put is not theirs["put"]  # or the names have moved
    assert programs.get is not theirs["get"]
    cache = programs(str(tmp_path / "all"), max_size=-1)
    cache.put("key", b"content")
    path = tmp_path / "all" / f"key{compilation_suffix()}"
    assert written == {path: b"content"}
    path.write_bytes(b"content")
    assert (cache.get("other key"), used) == (None, [])
    assert cache.get("key") == b"content"  # the name is the one that JAX reads
    assert used == [path]
    with monkeypatch.context() as patch:
        patch.setattr(type(cache.path), "read_bytes", lambda path: (_ for _ in ()).throw(FileNotFoundError()))
        assert cache.get("key") is None
    assert used == [path]
    cache.put("key", b"other")
    assert written == {path: b"content"}
    limited = programs(str(tmp_path / "limited"), max_size=10**6)
    limited.put("key", b"content")
    assert limited.get("key") == b"content"  # written by JAX itself
    assert (len(written), len(used)) == (1, 1)


STARTED = """
import jax
from flax_agnews.training.private_apis import devices_started
before = devices_started()
jax.devices()
print(before, devices_started())
"""


def test_devices_are_started_when_they_are_first_asked_for():
    done = subprocess.run([sys.executable, "-c", STARTED], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr


@pytest.mark.parametrize(("kept", "folder"), [(None, AUTOTUNED), ("none", "")])
def test_xla_keeps_results_of_autotuning_beside_compiled_programs(kept, folder, tmp_path):
    """By JAX's default, and not where it is turned off."""
    compiler = importlib.import_module("jax._src.compiler")
    with ExitStack() as stack:
        stack.enter_context(config.compilation_cache_dir(str(tmp_path)))
        if kept:
            stack.enter_context(config.persistent_cache_enable_xla_caches(kept))
        options = compiler.get_compile_options(num_replicas=1, num_partitions=1)
    found = options.executable_build_options.debug_options.xla_gpu_per_fusion_autotune_cache_dir
    assert found == (str(tmp_path / folder) if folder else "")


def test_jax_reads_and_writes_compiled_programs_by_that_class():
    source = inspect.getsource(importlib.import_module("jax._src.compilation_cache"))
    assert "LRUCache(" in source


def test_orbax_compares_directories_by_the_function_that_is_replaced(monkeypatch):
    execution = importlib.import_module(EXECUTION)
    theirs = execution._check_directory_consistency
    assert list(inspect.signature(theirs).parameters) == ["directory"]
    assert inspect.getsource(execution).count("_check_directory_consistency(") == 2  # defined, and called once
    monkeypatch.setattr(execution, "_check_directory_consistency", theirs)  # put back afterwards
    private_apis.skip_directory_comparison()
    assert execution._check_directory_consistency is not theirs
    assert execution._check_directory_consistency("/nowhere") is None


def test_python_waits_at_its_exit_for_the_pools_in_the_table_that_is_emptied():
    known = pools._threads_queues
    assert isinstance(known, weakref.WeakKeyDictionary)
    assert "_threads_queues" in inspect.getsource(pools._python_exit)
    begun, go_on, workers = threading.Event(), threading.Event(), []

    def work():
        workers.append(threading.current_thread())
        go_on.wait(60)

    def background():
        with ThreadPoolExecutor(1) as pool:
            pool.submit(work)
            while not workers:
                time.sleep(0.01)
            begun.set()

    hanging = threading.Thread(target=background, daemon=True)
    with ThreadPoolExecutor(1) as own:
        [ours] = own.map(lambda _: threading.current_thread(), range(1))
        hanging.start()
        assert begun.wait(60)
        assert workers[0].daemon  # as the thread that made the pool
        assert {ours, workers[0]} <= set(known)
        leave_background_pools()
        assert workers[0] not in known
        assert ours in known
        go_on.set()
        hanging.join(60)
