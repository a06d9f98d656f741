"""Runs a small experiment that is refused before the slow part."""

from collections.abc import Callable
from pathlib import Path

import pytest

from flax_agnews.main import main
from support.small_experiments import small

Refusal = Callable[..., str]


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Refusal:
    """Runs a small experiment with flags that are wrong; gives the line that stands behind `error: `."""

    def refuse(*flags: object, output: Path = tmp_path / "out") -> str:
        before = sorted(output.rglob("*")) if output.is_dir() else None
        capsys.readouterr()  # what fixtures said
        assert main(small(output, *flags)) == 2
        out, err = capsys.readouterr()
        assert err.startswith("error: ")
        assert err.endswith("\n")
        [line] = err.splitlines()
        assert "Traceback" not in out + err
        assert "compiling" not in out  # all of this is found before the slow part
        after = sorted(output.rglob("*")) if output.is_dir() else None
        assert after == before  # and the folder is left for the corrected command
        return line.removeprefix("error: ")

    return refuse
