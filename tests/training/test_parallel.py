"""Compiled programs are kept for later processes, as entries of the cache; devices are tested with every strategy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flax_agnews.system.caches import LIMIT, Entry, entries, folder_of

COMPILE = """
import sys, jax
from flax_agnews.errors import UserError
from flax_agnews.training.parallel import keep_compilations
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

    value, hits = compiled().stdout.split()
    first = there()
    assert (hits, bool(first)) == ("0", True)
    for entry in first.values():
        os.utime(entry.path, (0, 0))
    again, hits = compiled().stdout.split()
    second = there()
    assert again == value
    assert int(hits) >= len(first)
    assert all(second[name].used > 0 for name in first)
    refused = compiled(**{LIMIT: "much"})
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"error: {LIMIT}=much: must be a number of gigabytes, 0 or more\n"
