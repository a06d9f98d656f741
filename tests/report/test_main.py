"""The command that writes a report again."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.report_results import THREE, make, save

from flax_agnews.report import read_answer, read_results
from flax_agnews.report.__main__ import main
from flax_agnews.report.page import markdown_page


def test_command_rewrites_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, make(THREE))
    (tmp_path / "report.md").write_text("old", encoding="utf-8")
    assert main([str(tmp_path)]) == 0
    assert "report.md" in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == markdown_page(
        read_answer(tmp_path, read_results(tmp_path))
    )


def test_command_says_an_error_in_one_line_and_exits_with_2(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "flax_agnews.report", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).resolve().parents[2])
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
