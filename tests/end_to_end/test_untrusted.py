"""Files from elsewhere run nothing, write nowhere else, take no memory on their word, and are shown as plain text.

Weight files have tests of their own: tests/models/test_weights_fuzzed.py.
"""

import ast
import csv
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonargparse import ArgumentParser
from markdown_it import MarkdownIt
from rich.console import Console
from support.refusals import refused
from support.report_results import THREE, make, parsed, save
from support.source_files import ROWS, write

from flax_agnews.cli import arguments as cli
from flax_agnews.config import Config
from flax_agnews.data.tokens import encode_cached, train_tokenizer
from flax_agnews.errors import UserError
from flax_agnews.main import main
from flax_agnews.report import final_table, read_results, write_report
from flax_agnews.report.answer import answer
from flax_agnews.report.page import markdown_page
from flax_agnews.report.tables import write_csv
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.system.caches import folder_of

PACKAGE = Path(__file__).resolve().parents[2] / "flax_agnews"


# Nothing runs


@pytest.fixture
def sprung(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that comes to be when the module `trap` is imported; it can be."""
    file, module = tmp_path / "sprung", tmp_path / "modules" / "trap.py"
    module.parent.mkdir()
    module.write_text(f"open({str(file)!r}, 'w').close()\nclass Trap:\n    pass\n")
    monkeypatch.syspath_prepend(str(module.parent))
    monkeypatch.chdir(tmp_path)
    yield file
    sys.modules.pop("trap", None)


def test_the_trap_is_one(sprung: Path) -> None:
    """A parser with a setting that may be anything makes what a file names; that is why none of ours may."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--fields", type=dict[str, Any])
    with warnings.catch_warnings(action="ignore"):
        parser.instantiate(parser.parse_args(["--fields", '{"x": {"class_path": "trap.Trap"}}']))
    assert sprung.exists()


RUNS = (
    "model: {from_config: {class_path: trap.Trap}}",
    "model: {from_config: {class_path: trap.Trap, init_args: {}}}",
    "model: {from_config: {n_embd: {class_path: trap.Trap}}}",
    "model: {from_config: {n_layer: 2, x: {class_path: trap.Trap}}}",
    "model: {from_config: {x: [{class_path: trap.Trap}]}}",
    "model: {name: {class_path: trap.Trap}}",
    "train: {class_path: trap.Trap}",
    "train: {epochs: {class_path: trap.Trap}}",
    'train: {epochs: "{class_path: trap.Trap}"}',
    "train: {clip_norm: trap.Trap}",
    "train: trap.Trap",
    "full: {class_path: trap.Trap}",
    "strategy: {class_path: trap.Trap}",
    "strategy: trap.Trap",
    "output: !!python/name:trap.Trap",
    "output: !!python/module:trap",
    "output: !!python/object/new:trap.Trap []",
    "output: !!python/object/apply:os.mkdir [sprung]",
    "!!python/object:trap.Trap {}",
)


@pytest.mark.parametrize("content", RUNS)
def test_no_file_of_settings_runs_anything(content: str, sprung: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    refused(cli.parse, ["--config", str(path)])
    (tmp_path / "out").mkdir()
    path.rename(tmp_path / "out" / "config.yaml")
    assert "no configuration" in refused(OutputFolder(tmp_path / "out").check, Config())
    assert not sprung.exists()
    assert "trap" not in sys.modules


@pytest.mark.parametrize(
    "flags",
    [
        ["--train", "trap.Trap"],
        ["--train", '{"class_path": "trap.Trap"}'],
        ["--full=trap.Trap"],
        ["--train.epochs", '{"class_path": "trap.Trap"}'],
        ["--train.clip_norm", "trap.Trap"],
        ["--model.from_config", '{"x": {"class_path": "trap.Trap"}}'],
        ["--model.from_config", '{"class_path": "trap.Trap"}'],
        ["--model.from_config.n_embd", '{"class_path": "trap.Trap"}'],
        ["--model.from_config.x", '{"class_path": "trap.Trap"}'],
        ["--strategy", "trap.Trap"],
        ["--config", "trap.Trap"],
        ["--config", '{"train": {"class_path": "trap.Trap"}}'],
    ],
)
def test_no_flag_runs_anything(flags: list[str], sprung: Path) -> None:
    refused(cli.parse, flags)
    assert not sprung.exists()
    assert "trap" not in sys.modules


@pytest.mark.parametrize("flag", ["--train", "--model", "--full"])
def test_a_section_is_no_flag(flag: str) -> None:
    assert f"such as {flag}." in refused(cli.parse, [flag, "{}"])


def test_a_field_of_config_json_that_is_none_is_named() -> None:
    assert "Did you mean --model.from_config.n_embd" in refused(cli.parse, ["--model.from_config.n_emb", "32"])
    message = refused(cli.parse, ["--model.from_config", '{"n_layr": 2}'])
    assert message.startswith("model.from_config.n_layr: no such setting. Did you mean model.from_config.n_layer")


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


def test_a_pickle_in_the_cache_of_tokens_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLAX_AGNEWS_CACHE", str(tmp_path))
    tokenizer, texts = train_tokenizer(["a text, and another text"] * 3, 300), ["one text", "another"]
    right = encode_cached(tokenizer, texts, 9)
    (file,) = folder_of("tokens").iterdir()
    poison = np.array([Trap(tmp_path / "sprung")], dtype=object)
    np.savez(file, ids=poison, offsets=poison, meta=poison)
    again = encode_cached(tokenizer, texts, 9)
    assert not (tmp_path / "sprung").exists()
    assert (again.ids.tolist(), again.offsets.tolist()) == (right.ids.tolist(), right.offsets.tolist())
    pickle.loads(pickle.dumps(poison))
    assert (tmp_path / "sprung").exists(), "the trap was no trap"


RUNNERS = {"eval", "exec", "compile", "__import__", "system", "popen", "Popen", "run", "unsafe_load", "full_load"}
DESERIALIZERS = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "subprocess", "torch"}


@pytest.mark.parametrize("file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE)))
def test_the_package_has_nothing_that_could_run_a_file(file: Path) -> None:
    """No unpickling and no shell, YAML by the plain loader alone, NumPy without pickles, nobody's remote code."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + ([node.module] if isinstance(node, ast.ImportFrom) else [])
            assert not {str(name).split(".")[0] for name in names} & DESERIALIZERS
        if isinstance(node, ast.keyword):
            assert node.arg not in ("trust_remote_code", "shell")
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            bare = isinstance(node.func, ast.Name) or called.split(".")[0] in ("os", "yaml", "builtins")
            assert not (bare and called.split(".")[-1] in RUNNERS), f"{called} in line {node.lineno}"
            if called == "np.load":
                assert named.get("allow_pickle") == "False"
            if called.startswith("yaml.") and "load" in called:
                assert [ast.unparse(argument) for argument in node.args[1:]] == ["_PlainLoader"]


# Nothing is written elsewhere


# Nothing swells

LAUGHS = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
LAUGHS += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
"""Shown as text, a terabyte."""

INLINE = "[&a0 [1, 1], " + ", ".join(f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)) + "]"


def sparse(path: Path, start: bytes, size: int = 3 << 30) -> Path:
    """A file that is much longer than what is stored of it: the rest is zeros."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def varint(number: int) -> bytes:
    """As Thrift's compact protocol writes a number of 64 bits that isn't negative."""
    number, out = 2 * number, b""
    while number > 127:
        number, out = number >> 7, out + bytes([number & 127 | 128])
    return out + bytes([number])


def claiming(path: Path, rows: int) -> Path:
    """A Parquet file of 12,345 rows that says it has `rows`, everywhere."""
    pq.write_table(pa.table({"text": ["a", "b", "c"] * 4115, "label": [0, 1, 2] * 4115}), path)
    content = path.read_bytes()
    (length,) = struct.unpack("<I", content[-8:-4])
    footer = content[-8 - length : -8].replace(varint(12345), varint(rows))
    assert varint(rows) in footer
    path.write_bytes(content[: -8 - length] + footer + struct.pack("<I", len(footer)) + b"PAR1")
    return path


def repeating(path: Path, characters: int, rows: int) -> Path:
    """A small Parquet file of a long text that stands in a great many rows."""
    once = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["x" * characters]))
    table = pa.table({"text": once, "label": pa.array(np.arange(rows) % 2)})
    pq.write_table(table, path, dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < 5 << 20
    return path


def model(folder: Path, config: str) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text(config)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    return folder


READ = """
import json, resource, sys
from pathlib import Path
from flax_agnews.cli import arguments as cli
from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.errors import UserError
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.models.pretrained import load_base

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

KINDS = {
    "settings": lambda path: cli.parse(["--config", path]),
    "flag": lambda value: cli.parse([value]),
    "folder": lambda path: OutputFolder(Path(path)).check(cli.parse([]).config),
    "data": lambda path: load_corpus(DataConfig(source=path, test_source=path if Path(path).is_file() else None)),
    "model": lambda path: load_base(ModelConfig(name=path)),
    "random": lambda path: load_base(ModelConfig(from_config=path)),
}
resource.setrlimit(resource.RLIMIT_DATA, (6 << 30, 6 << 30))  # should one swell after all, this process alone falls
before, told = peak(), {}
for name, (kind, value) in json.load(sys.stdin).items():
    try:
        KINDS[kind](value)
        told[name] = "taken"
    except UserError as error:
        told[name] = str(error)
    print(name, round((peak() - before) / 1e6), "MB", file=sys.stderr)
print(json.dumps([told, peak() - before]))
"""

MODEL = {"vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}

SWELLS = {  # what: words of its refusal
    "aliases": "aliases (*a0) aren't read",
    "aliases inside a value": "aliases (*a0) aren't read",
    "aliases in a flag": "aliases (*a0) aren't read",
    "brackets": "not YAML",
    "long settings": "longer than 100,000 bytes",
    "aliases in an output folder": "no configuration",
    "a line of gigabytes": "more than 10,000,000 characters",
    "a field of megabytes": "field larger than field limit",
    "a JSON line of gigabytes": "more than 10,000,000 characters",
    "class names of gigabytes": "more than 10,000,000 characters",
    "as many classes as rows": "20,000 different labels",
    "a trillion rows": "says that it has 1,000,000,000,000 rows",
    "a text in a million rows": "GB of texts",
    "a billion layers": "n_layer 1000000000 must be a whole number, 1 to 1,000",
    "a trillion words": "vocab_size 1000000000000 must be",
    "layers that no file has": "and 3504 more",
    "a deep config.json": "nested too deep",
    "a long config.json": "longer than 10,000,000 bytes",
    "a billion layers at random": "n_layer 1000000000 must be",
    "more numbers than memory": "more than this machine's memory",
}


@pytest.fixture(scope="module")
def swells(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], int]]:
    """What a process says to each of them, and by how many bytes it grew."""
    here = tmp_path_factory.mktemp("swells")

    def text(name: str, content: str) -> Path:
        (here / name).parent.mkdir(exist_ok=True)
        (here / name).write_text(content)
        return here / name

    names = write(here / "many.csv", [(f"text {row}", f"class {row}") for row in range(20_000)])
    listed = write(text("listed/classes.txt", "").parent / "train.csv", ROWS).parent
    write(listed / "test.csv", ROWS)
    sparse(listed / "classes.txt", b"World\nSports\n")
    long_model = model(here / "long", "")
    sparse(long_model / "config.json", b"{")
    cases: dict[str, tuple[str, Any]] = {
        "aliases": ("settings", text("laughs.yaml", "\n".join(LAUGHS))),
        "aliases inside a value": ("settings", text("inside.yaml", yaml.safe_dump({"train": {"epochs": INLINE}}))),
        "aliases in a flag": ("flag", f"--train.epochs={INLINE}"),
        "brackets": ("settings", text("deep.yaml", "train: " + "[" * 50_000)),
        "long settings": ("settings", sparse(here / "long.yaml", b"train: {epochs: 3}\n#")),
        "aliases in an output folder": ("folder", text("used/config.yaml", "\n".join(LAUGHS)).parent),
        "a line of gigabytes": ("data", sparse(here / "line.csv", b"text,label\n")),
        "a field of megabytes": ("data", text("field.csv", 'text,label\n"' + "a line\n" * 5_000_000)),
        "a JSON line of gigabytes": ("data", sparse(here / "line.jsonl", b'{"text": "a", "label": 0}\n{"text": "')),
        "class names of gigabytes": ("data", listed),
        "as many classes as rows": ("data", names),
        "a trillion rows": ("data", claiming(here / "rows.parquet", 10**12)),
        "a text in a million rows": ("data", repeating(here / "text.parquet", 900_000, 3_000_000)),
        "a billion layers": ("model", model(here / "layers", '{"n_layer": 1000000000}')),
        "a trillion words": ("model", model(here / "words", '{"vocab_size": 1000000000000}')),
        "layers that no file has": ("model", model(here / "absent", json.dumps({**MODEL, "n_layer": 300}))),
        "a deep config.json": ("model", model(here / "deep", '{"a":' * 10**5)),
        "a long config.json": ("model", long_model),
        "a billion layers at random": ("random", text("billion.json", '{"n_layer": 1000000000}')),
        "more numbers than memory": ("random", text("wide.json", json.dumps({"n_embd": 9_999_996, "n_layer": 9}))),
    }
    command = [sys.executable, "-c", READ]
    done = subprocess.run(
        command,
        input=json.dumps({name: (kind, str(value)) for name, (kind, value) in cases.items()}),
        env={**os.environ, "PYTHONPATH": str(PACKAGE.parent)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told, grown = json.loads(done.stdout)
    yield told, grown
    for path in here.rglob("*"):
        if path.is_file():
            path.unlink()


@pytest.mark.parametrize("what", SWELLS)
def test_what_would_swell_is_refused_in_one_line(what: str, swells: tuple[dict[str, str], int]) -> None:
    line = swells[0][what]
    assert SWELLS[what] in line
    assert line.isprintable()
    assert len(line) < 5000


def test_nothing_that_would_swell_does(swells: tuple[dict[str, str], int]) -> None:
    assert swells[1] < 500e6


# Nothing is shown as anything but text

HOSTILE = "=1+1\x1b]0;owned\x07\x1b[2J\u202e[bold]x[/bold]<script>alert(1)</script>`$|\r\n# [a](javascript:b)"


@pytest.mark.parametrize("place", ["source", "label", "column", "setting", "model", "strategy", "output"])
def test_an_error_is_one_plain_line(place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.csv"
    rows = [("a", 0), ("b", 1), ("c", HOSTILE if place == "label" else 1)]
    write(path, rows, columns=(HOSTILE, "label") if place == "column" else ("text", "label"))
    source = ["--data.source", str(path), "--data.test_source", str(path)]
    flags = {
        "source": ["--data.source", f"./{HOSTILE}"],
        "setting": [f"--train.{HOSTILE}", "1"],
        "model": ["--data.source", "builtin", "--model.name", f"./{HOSTILE}"],
        "strategy": ["--strategy", HOSTILE],
        "output": [*source, "--output", str(path / HOSTILE)],
    }
    assert main([*flags.get(place, source), *(["--output", str(tmp_path / "out")] if place != "output" else [])]) == 2
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert err.removesuffix("\n").isprintable()
    assert all(line.isprintable() for line in out.splitlines())


def hostile_results() -> dict[str, Any]:
    results = make({HOSTILE: [0.9, 0.8], "plain": [0.7, 0.75]}, classes=(HOSTILE, "Sports"))
    results["data"]["source"] = results["model"]["name"] = results["model"]["dtype"] = HOSTILE
    results["flax_agnews"] = results["model"]["base"] = HOSTILE
    results["environment"] = {HOSTILE: HOSTILE}
    results["settings"] = {"train": {HOSTILE: [HOSTILE]}}
    return results


def test_a_report_of_hostile_names_is_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report(save(tmp_path, hostile_results()))
    page = (tmp_path / "report.md").read_text("utf-8")
    assert all(line.isprintable() for line in page.split("\n"))
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    kinds = {token.type for block in tokens for token in (block, *(block.children or []))}
    assert not kinds & {"html_block", "html_inline", "link_open", "s_open"}
    assert sum(token.type == "heading_open" and token.tag == "h1" for token in tokens) == 1
    table = (tmp_path / "results.csv").read_text("utf-8")
    assert [row[0][:5] for row in csv.reader(io.StringIO(table))] == ["strat", "'=1+1", "'=1+1", "plain", "plain"]
    assert all(line.isprintable() for line in table.split("\n"))


def test_a_final_table_of_hostile_names_commands_no_terminal(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=200, color_system=None, _environ={})
    console.print(final_table(answer(read_results(save(tmp_path, hostile_results())))))
    shown = console.file.getvalue()
    assert "[bold]x[/bold]" in shown
    assert all(line.isprintable() for line in shown.replace("\x1b[1m", "").replace("\x1b[0m", "").split("\n"))


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\n=1"])
def test_no_name_in_the_table_is_a_formula(text: str, tmp_path: Path) -> None:
    results = make({text: [0.9]})
    with write_csv(parsed(results), tmp_path / "results.csv").open(encoding="utf-8", newline="") as file:
        _, cells = csv.reader(file)
    assert cells[0].startswith("'")
    assert cells[0].endswith(text.strip())
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in cells)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.data())
def test_results_with_anything_in_them_are_shown_or_refused(data: Any) -> None:
    results: Any = make(THREE)
    place: Any = results
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.integers(0, 4)) == 0:
            break
        place = place[key]
    place[key] = data.draw(anything)
    folder = Path(os.environ["FLAX_AGNEWS_CACHE"])
    try:
        read = read_results(save(folder, results))
    except UserError as error:
        line = str(error)
    else:
        line = " ".join(markdown_page(answer(read)).split("\n"))
        write_csv(read, folder / "results.csv")
        Console(file=io.StringIO()).print(final_table(answer(read)))
    assert line.isprintable()
