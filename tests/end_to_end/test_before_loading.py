"""A command that can't read its input or mustn't write its output says so before it loads a model.

The run of these tests has lost its body: a command that gets as far as loading it says so.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flax_agnews import export, predict
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.system.files import check_writable, same_file

LOADING = "its body or tokenizer can't be loaded"
NOWHERE = "/proc/nowhere"  # nobody, not even root, can write there


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    output = Path(shutil.copytree(trained, tmp_path / "output"))
    shutil.rmtree(output / "base")
    return output / "prompt" / "seed-42"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With two files of texts, of which one has a column of answers already; it is the working directory."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("in.csv").write_text("text,label\nOil prices climb,World\n")
    Path("answered.csv").write_text("text,label,p_World\nOil prices climb,World,0.5\n")
    Path("soft.csv").symlink_to("in.csv")
    os.link("in.csv", "hard.csv")
    Path("split").mkdir()
    Path("split/test.json").write_text('[{"text": "Oil prices climb", "label": "World"}]')
    return tmp_path / "here"


def refused(capsys: pytest.CaptureFixture[str], command: Callable[[list[str]], int], *arguments: object) -> str:
    """The one line after `error: `."""
    capsys.readouterr()
    assert command([str(argument) for argument in arguments]) == 2
    out, err = capsys.readouterr()
    lines = [line for line in err.splitlines() if not line.startswith(("loading ", "exporting "))]
    assert (out, len(lines)) == ("", 1)
    return lines[0].removeprefix("error: ")


def test_the_run_can_not_be_loaded(run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """So that the tests below mean something."""
    files = ("--file", "in.csv", "--prefix", "my_", "--out", "out.csv")
    assert LOADING in refused(capsys, predict.main, run, *files)
    assert LOADING in refused(capsys, evaluate_main, run, "--data", "in.csv", "--json", "new/out.json")
    assert LOADING in refused(capsys, export.main, run, "--to", "peft", "out")
    assert {path.name for path in folder.iterdir()} == {"in.csv", "answered.csv", "soft.csv", "hard.csv", "split"}


@pytest.mark.parametrize("target", ["in.csv", "./in.csv", "../here/in.csv", "{folder}/in.csv", "soft.csv", "hard.csv"])
def test_predict_does_not_write_over_what_it_reads(
    target: str, run: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path("in.csv").read_text()
    files = ("--file", "in.csv", "--out", target.format(folder=folder), "--prefix", "my_")
    assert "is the file that is read (--file in.csv); name another one" in refused(capsys, predict.main, run, *files)
    assert Path("in.csv").read_text() == Path("soft.csv").read_text() == before
    assert Path("soft.csv").is_symlink()


@pytest.mark.parametrize(
    ("flags", "tells"),
    [
        ("--file none.csv --out out.csv", "none.csv: no such file"),
        ("--file in.csv --out out.jsonl", "--out out.jsonl: must end in .csv, as --file does"),
        ("--file in.csv --out out.csv", "in.csv: has label already; name the new columns otherwise: --prefix"),
        ("--file answered.csv --out out.csv", "answered.csv: has label, p_World already"),
        ("--file in.csv --out out.csv --text_column body", "--text_column body: in.csv has the columns text, label"),
        ("--file in.csv --prefix my_ --out none/out.csv", "--out none/out.csv: there is no folder none"),
        ("--file in.csv --prefix my_ --out in.csv/out.csv", "--out in.csv/out.csv: there is no folder in.csv"),
        (f"--file in.csv --prefix my_ --out {NOWHERE}.csv", f"--out {NOWHERE}.csv: cannot be written ("),
    ],
)
def test_predict(flags: str, tells: str, run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, predict.main, run, *flags.split()).startswith(tells)


@pytest.mark.parametrize(
    ("flags", "tells"),
    [
        ("--data none.csv", "none.csv: no such file"),
        ("--data in.csv --label_column class", "--label_column class: in.csv has the columns text, label"),
        ("--data in.csv --json soft.csv", "--json soft.csv: is the file that is read (--data in.csv)"),
        ("--data ./[is]*.csv --json hard.csv", "--json hard.csv: is the file that is read (--data [is]*.csv)"),
        ("--data split --json split/test.json", "--json split/test.json: is the file that is read (--data split)"),
        ("--data in.csv --json .", "--json .: is a folder; name a file"),
        ("--data in.csv --json in.csv/found.json", "--json in.csv/found.json: cannot be written (Not a directory)"),
        (f"--data in.csv --json {NOWHERE}.json", f"--json {NOWHERE}.json: cannot be written ("),
    ],
)
def test_evaluate(flags: str, tells: str, run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(capsys, evaluate_main, run, *flags.split()).startswith(tells)


@pytest.mark.parametrize(
    ("target", "tells"),
    [
        (".", "is not empty; choose another folder, or --overwrite"),
        ("in.csv", "is a file; an export is a folder"),
        ("in.csv/out", "cannot be written (Not a directory)"),
        (NOWHERE, "cannot be written ("),
    ],
)
def test_export(target: str, tells: str, run: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = (folder / target).resolve()
    assert refused(capsys, export.main, run, "--to", "hf", target).startswith(f"{place}: {tells}")


def test_what_can_be_written_is_let_be(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    for path in ("in.csv", "new.csv", "new/folder/file", str(folder / "x"), "soft.csv"):
        check_writable(Path(path))
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert same_file(Path("in.csv"), Path("hard.csv"))
    assert not same_file(Path("in.csv"), Path("answered.csv"))
    assert not same_file(Path("in.csv"), Path("none.csv"))
