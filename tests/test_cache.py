"""`flax-agnews cache` lists all caches and empties them, also beside running training, without starting JAX."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from flax_agnews.cache import main
from flax_agnews.system.caches import KINDS, LIMIT, folder_of, hold


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder with 1000 bytes of each kind."""
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    for kind in KINDS:
        (folder_of(kind) / "key").mkdir(parents=True)
        (folder_of(kind) / "key" / "values").write_bytes(bytes(1000))
    return tmp_path


def test_each_kind_has_a_line_and_all_together_a_limit(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(LIMIT, "3")
    os.utime(cache / "tokens" / "key", (0, 0))
    assert main([]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["kind", "files", "size", "last", "use", "folder"]
    assert [line.split()[0] for line in lines[: len(KINDS)]] == list(KINDS)
    assert all(line.split()[1:4] == ["1", "1.0", "kB"] for line in lines[: len(KINDS)])
    assert " 1970-01-01 " in lines[0] or " 1969-12-31 " in lines[0]
    assert lines[0].endswith(f"  {cache / 'tokens'}")
    assert lines[len(KINDS)].split()[:4] == ["together", str(len(KINDS)), f"{len(KINDS)}.0", "kB"]
    assert lines[-1] == f"at most 3.0 GB together ({LIMIT})"


def test_an_empty_cache(cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(cache / "none"))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    assert main([]) == 0
    out = capsys.readouterr().out
    assert ["together", "0", "0", "B", "–", str(cache / "none")] in [line.split() for line in out.splitlines()]
    assert out.endswith("compiled programs are in /elsewhere, and not counted here\n")
    assert main(["--empty"]) == 0
    assert capsys.readouterr().out.endswith("freed 0 B\n")
    assert not (cache / "none").exists()


def test_kinds_are_emptied(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--empty", "compiled", "tokens", "compiled"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "compiled: removed 1 file, 1.0 kB",
        "tokens: removed 1 file, 1.0 kB",
        "freed 2.0 kB",
    ]
    assert {path.parent.name for path in cache.glob("*/*")} == set(KINDS) - {"compiled", "tokens"}
    assert main(["--empty"]) == 0
    assert capsys.readouterr().out.endswith(f"freed {len(KINDS) - 2}.0 kB\n")
    assert list(cache.glob("*/*")) == []


def test_what_is_in_use_stays(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = cache / "activations" / "key" / "values"
    with values.open("rb") as file:
        hold(file.fileno())
        assert main(["--empty"]) == 0
        assert "activations: removed 0 files, 0 B; 1 entry in use or not removable\n" in capsys.readouterr().out
    assert list(cache.rglob("values")) == [values]


def test_mistakes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--empty", "everything"])
    assert stop.value.code == 2
    capsys.readouterr()
    monkeypatch.setenv(LIMIT, "many")
    assert main([]) == 2
    assert capsys.readouterr().err == f"error: {LIMIT}=many: must be a number of gigabytes, 0 or more\n"


def test_it_starts_without_heavy_libraries() -> None:
    script = (
        "import sys; from flax_agnews.__main__ import main; main(['cache']);"
        "print(*(m for m in ('jax', 'numpy', 'flax', 'transformers', 'rich', 'yaml') if m in sys.modules), 'none')"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.stdout.splitlines()[-1] == "yaml none"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 1.5
