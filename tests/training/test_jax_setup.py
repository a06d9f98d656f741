"""Compiled programs are kept for later processes, as entries of the cache; devices are tested with every strategy."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from flax_agnews.errors import UserError
from flax_agnews.system.caches import LIMIT, Entry, entries, folder_of
from flax_agnews.training import private_apis
from flax_agnews.training.jax_setup import compute_deterministically
from flax_agnews.training.private_apis import AUTOTUNED

COMPILE = """
import sys, jax
from flax_agnews.errors import UserError
from flax_agnews.training.jax_setup import keep_compilations
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event) if event.endswith("cache_hits") else None)
try:
    keep_compilations()
except UserError as error:
    sys.exit(f"error: {error}")
print(float(jax.random.normal(jax.random.key(0), (3,)).sum()), len(hits))
"""


def compiled(**environment: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")} | environment
    command = [sys.executable, "-W", "error", "-c", COMPILE]
    return subprocess.run(command, env=env | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False)


def test_the_next_process_reads_what_one_has_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path))

    def there() -> dict[str, Entry]:
        return {entry.path.name: entry for entry in entries(folder_of("compiled"))}

    results = folder_of("compiled") / AUTOTUNED  # as XLA makes it on a GPU
    (results / "tmp").mkdir(parents=True)
    (results / "key.textproto").write_bytes(bytes(100))
    os.utime(results, (0, 0))
    value, hits = compiled().stdout.split()
    first = there()
    assert (hits, len(first) > 1) == ("0", True)
    assert (first[AUTOTUNED].files, first[AUTOTUNED].size) == (1, 100)
    assert first[AUTOTUNED].used > 0  # a program was written
    (results / "other.textproto").write_bytes(b"another result changes no program's key")
    for entry in first.values():
        os.utime(entry.path, (0, 0))
    again, hits = compiled().stdout.split()
    second = there()
    assert again == value
    assert int(hits) >= len(first) - 1
    assert all(second[name].used > 0 for name in first)
    refused = compiled(**{LIMIT: "much"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"error: {LIMIT}=much: must be a number of gigabytes, 0 or more\n"


FLAG = "--xla_gpu_deterministic_ops=true"


@pytest.fixture
def flags(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """XLA's flags and JAX's setting, put back afterwards."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=4")
    name = "jax_persistent_cache_enable_xla_caches"
    before = jax.config.values[name]
    yield
    jax.config.update(name, before)


@pytest.mark.usefixtures("flags")
def test_deterministic_kernels_are_chosen_without_what_was_measured_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_apis, "devices_started", lambda: False)
    for _ in range(2):
        compute_deterministically()
        assert os.environ["XLA_FLAGS"] == f"--xla_gpu_autotune_level=4 {FLAG}"
        assert jax.config.values["jax_persistent_cache_enable_xla_caches"] == "none"


@pytest.mark.usefixtures("flags")
@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_gpu_that_has_started_cant_become_deterministic(platform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the flag is without effect."""
    monkeypatch.setattr(private_apis, "devices_started", lambda: True)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    if platform == "cpu":
        return compute_deterministically()
    with pytest.raises(UserError, match=f"has started the GPU in this process without it. Begin with it, .*{FLAG}"):
        compute_deterministically()
    monkeypatch.setenv("XLA_FLAGS", FLAG)
    compute_deterministically()
