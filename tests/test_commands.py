"""`flax-agnews`: finds its commands, explains itself, and starts fast."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from flax_agnews import __version__, cache, export, predict
from flax_agnews.__main__ import COMMANDS, main
from flax_agnews.report import __main__ as report

ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    **{"predict": predict, "evaluate": import_module("flax_agnews.evaluate"), "export": export},
    **{"cache": cache, "report": report},
}


@pytest.mark.parametrize("flags", [[], ["--help"], ["-h"]])
def test_help_lists_the_commands_on_a_screen(flags, capsys):
    assert main(flags) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 30
    assert max(map(len, lines)) <= 80
    assert all(any(line.startswith(f"  {name} ") for line in lines) for name in COMMANDS)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"flax-agnews {__version__}\n"


@pytest.mark.parametrize(
    ("name", "tells"),
    [
        ("trian", "trian: no such command. Did you mean train?"),
        ("xyz", "xyz: no such command. Known: cache, describe, evaluate, export, predict, report, train."),
        ("--config", "--config: a command comes first, such as flax-agnews train --config"),
        ("a\nb", "a b: no such command. Known: cache, describe, evaluate, export, predict, report, train."),
    ],
)
def test_an_unknown_command_is_one_line(name, tells, capsys):
    assert main([name]) == 2
    assert capsys.readouterr().err == f"error: {tells}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_names_itself_in_its_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        sys.exit(main([name, "--help"]))
    assert not stop.value.code
    assert capsys.readouterr().out.startswith(f"usage: flax-agnews {name} ")


@pytest.mark.parametrize("name", MODULES)
def test_a_module_names_itself_in_its_help(name, capsys):
    with pytest.raises(SystemExit):
        MODULES[name].main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m flax_agnews.{name} ")


def test_mistakes_of_a_command_name_its_help(capsys):
    assert main(["predict"]) == 2
    assert capsys.readouterr().err.endswith("required: RUN; flax-agnews predict --help\n")


def test_describe_has_the_flags_of_training(capsys):
    body = ("--model.from_config", "{vocab_size: 300, n_positions: 64, n_embd: 32, n_layer: 2, n_head: 2}")
    assert main(["describe", "--strategy", "lora,full", "--lora.rank", "4", *body]) == 0
    out = capsys.readouterr().out
    updates = 4 * (32 + 96) * 2
    assert f"lora: {updates + 4 * 32:,} of " in out
    assert "full: " in out
    assert main(["describe", "--strategy", "loar"]) == 2
    assert capsys.readouterr().err == "error: --strategy loar: no such strategy. Did you mean lora?\n"


def test_help_starts_without_heavy_libraries():
    script = (
        "import sys; from flax_agnews.__main__ import main; main(['--help']); main(['trian']);"
        "print(*(m for m in ('jax', 'numpy', 'flax', 'transformers', 'rich', 'yaml') if m in sys.modules), 'none')"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "none"
