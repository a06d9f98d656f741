"""Processes without a working directory, a home or a writable cache: each is one line, or works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.small_experiments import BODY, small

from flax_agnews.system.environment import cache_folder, not_kept, unwritable

ROOT = Path(__file__).resolve().parents[2]
OURS = ("FLAX_AGNEWS_CACHE", "JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME", "HF_HOME", "MPLCONFIGDIR", "HOME")
NOWHERE = "/dev/null/home"  # below a file, nobody, not even root, can write

WHERE = """
import os, flax_agnews, matplotlib, huggingface_hub.constants, flax_agnews.system.environment as here
places = [here.cache_folder(), matplotlib.get_cachedir(), matplotlib.get_configdir(), huggingface_hub.constants.HF_HOME]
import json; print(json.dumps([*map(str, places), os.path.expanduser("~")]))
"""


def environment(**changed: str) -> dict[str, str]:
    """Of a person who has set nothing but these."""
    plain = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**plain, "PYTHONPATH": str(ROOT), **changed}


def process(*arguments: object, cwd: Path | str, **changed: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=environment(**changed), cwd=cwd, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("module", ["predict", "main", "report"])
def test_a_working_directory_that_was_removed(module: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    script = f"mkdir {gone}; cd {gone}; rmdir {gone}; exec {sys.executable} -m flax_agnews.{module} {tmp_path}"
    done = subprocess.run(["sh", "-c", script], env=environment(HOME=str(tmp_path)), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: the working directory can't be used (No such file or directory); cd to a folder that is there\n"
    )


@pytest.mark.parametrize("home", ["", "relative", None, NOWHERE])
def test_no_library_writes_where_it_must_not(home: str | None, tmp_path: Path) -> None:
    """Neither into the root, nor below the working directory; temporary folders are gone afterwards."""
    root_before = sorted(os.listdir("/"))
    done = process("-c", WHERE, cwd=tmp_path, **({} if home is None else {"HOME": home}), TMPDIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    ours, *theirs, expanded = json.loads(done.stdout)
    own_home = home is None or not os.path.isabs(home)
    if own_home:  # the system's list of users says where
        import pwd

        assert expanded == pwd.getpwuid(os.getuid()).pw_dir
        assert ours == f"{expanded}/.cache/flax_agnews"
    else:
        assert ours == f"{NOWHERE}/.cache/flax_agnews"
        assert all(Path(place).is_relative_to(tmp_path) for place in theirs)
    assert all(Path(place).is_absolute() for place in theirs)
    assert list(tmp_path.iterdir()) == []
    assert sorted(os.listdir("/")) == root_before


def test_a_comparison_where_nothing_can_be_cached(tmp_path: Path) -> None:
    """Tokens, compiled programs, frozen layers and the adapted body are for this process alone, which says so once."""
    flags = ("--strategy", "head", "--train.runs", 1, "--train.epochs", 1, "--pretrain.epochs", 1)
    arguments = small(tmp_path / "out", *flags, "--parallel.keep_compilations", "true")
    body = (
        "--model.from_config",
        json.dumps({**BODY, "n_layer": 1, "embd_pdrop": 0, "attn_pdrop": 0, "resid_pdrop": 0}),
    )
    (tmp_path / "cwd").mkdir()
    done = process("-m", "flax_agnews.main", *arguments, *body, cwd=tmp_path / "cwd", HOME=NOWHERE)
    assert (done.returncode, done.stderr) == (0, "")
    told = [line for line in done.stdout.splitlines() if "can't be written" in line or "FLAX_AGNEWS_CACHE" in line]
    assert told == [
        f"{NOWHERE}/.cache/flax_agnews can't be written (Not a directory): nothing is cached for later runs; "
        "FLAX_AGNEWS_CACHE=DIR names another folder"
    ]
    assert "in memory" in done.stdout
    assert list((tmp_path / "cwd").iterdir()) == []

    run = tmp_path / "out" / "head" / "seed-42"
    answered = process("-m", "flax_agnews.predict", run, "--text", "hi", cwd=tmp_path / "cwd", HOME=NOWHERE)
    assert answered.returncode == 0
    assert answered.stdout.endswith("\thi\n")
    assert answered.stderr.count("can't be written") == 1
    assert all(line.startswith(("loading ", NOWHERE)) for line in answered.stderr.splitlines())


def test_a_working_directory_that_can_not_be_written(tmp_path: Path) -> None:
    done = process("-m", "flax_agnews.main", *small(Path("mine")), cwd="/proc", HOME=str(tmp_path))
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, "starting ...")
    [line] = done.stderr.splitlines()
    assert line.startswith("error: mine/config.yaml: cannot be written (")


def test_what_is_said_of_a_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "new" / "cache"))
    assert not_kept() is None
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path / "file"))
    assert str(not_kept()).startswith(f"{tmp_path / 'file'} can't be written (File exists): nothing is cached")
    assert unwritable(tmp_path / "file" / "below") == "Not a directory"
    assert cache_folder() == tmp_path / "file"
