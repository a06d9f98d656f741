"""The command that writes a report again."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.output_folders import experiment, output_folder, with_data_files
from support.report_results import THREE, make, save

from flax_agnews.report import read_answer, read_results
from flax_agnews.report.__main__ import main
from flax_agnews.report.latex import latex_table
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


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    one = output_folder(tmp_path / "one", experiment(), [("full", 42), ("full", 43)])
    other = output_folder(tmp_path / "other", experiment(), [("full", 44), ("head", 42)])
    return [str(with_data_files(one)), str(other)]


def test_several_folders_become_one_report(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "merged"
    assert main([*folders, "--output", str(output)]) == 0
    assert str(output) in capsys.readouterr().out
    page = (output / "report.md").read_text(encoding="utf-8")
    assert page == markdown_page(read_answer(output, read_results(output)))
    assert "merged.yaml" in page
    assert main([str(output)]) == 0
    assert (output / "report.md").read_text(encoding="utf-8") == page


def test_several_folders_need_an_output(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folders) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err == "error: several folders are merged into a new one: name it with --output DIR\n"


def test_what_is_unfinished_is_said(folders: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(folders[:1]) == 0
    assert "Planned and not begun: full seed 44." in capsys.readouterr().out.splitlines()


def test_the_latex_table_goes_to_a_file_or_alone_to_the_standard_output(
    folders: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, file = Path(folders[0]), tmp_path / "table.tex"
    expected = latex_table(read_answer(folder, read_results(folder)))
    assert main([folders[0], "--latex", str(file)]) == 0
    assert file.read_text("utf-8") == expected
    assert "table.tex" in capsys.readouterr().out
    assert main([folders[0], "--latex", "-"]) == 0
    shown = capsys.readouterr()
    assert shown.out == expected
    assert "report.md" in shown.err
    assert main([folders[0], "--latex", str(tmp_path / "table.tex" / "x")]) == 2
