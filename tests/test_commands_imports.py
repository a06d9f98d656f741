"""What a command imports: help, settings and mistakes are answered without libraries that are slow to import."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

COMPUTING = {"jax", "jaxlib", "jaxtyping", "flax", "optax", "orbax", "ml_dtypes", "flax_agnews.training"}
DATA = {"datasets", "huggingface_hub", "pandas", "pyarrow", "safetensors", "tokenizers", "transformers"}
OTHERS = {"matplotlib", "scipy", "sklearn", "torch", "wandb", "IPython"}

IMPORTED = """
import runpy, sys
module, *sys.argv = sys.argv[1:]
code = 0
try:
    runpy.run_module(module, run_name="__main__")
except SystemExit as stop:
    code = stop.code or 0
print("imported:", *sys.modules)
sys.exit(code)
"""


def imported(module, *arguments, code=0):
    """The modules that a process has imported that ran a module with these arguments."""
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED, module, "program", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return set(done.stdout.rsplit("imported:", 1)[1].split())


@pytest.mark.parametrize(
    ("module", "arguments", "code"),
    [
        ("flax_agnews", ["--help"], 0),
        ("flax_agnews.main", ["--help"], 0),
        ("flax_agnews.main", ["--help", "all"], 0),
        ("flax_agnews.main", ["--print_config", "--config", "quickstart", "--model.from_config.n_layer", "2"], 0),
        ("flax_agnews.main", ["--train.epoch", "3"], 2),  # no such setting
        ("flax_agnews.main", ["--train.epochs", "many"], 2),
        ("flax_agnews.main", ["--strategy", "lore"], 2),
        ("flax_agnews", ["describe", "--help"], 0),
        ("flax_agnews.predict", ["--help"], 0),
        ("flax_agnews.evaluate", ["--help"], 0),
        ("flax_agnews.export", ["--help"], 0),
        ("flax_agnews.report", ["--help"], 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_help_settings_and_mistakes_need_no_slow_library(module, arguments, code):
    slow = COMPUTING | DATA | OTHERS
    assert not imported(module, *arguments, code=code) & slow


def test_a_description_needs_jax_and_nothing_else_that_is_slow():
    body = "{vocab_size: 300, n_positions: 64, n_embd: 32, n_layer: 2, n_head: 2}"
    found = imported("flax_agnews", "describe", "--strategy", "lora", "--model.from_config", body)
    assert {"jax", "flax", "optax"} <= found
    assert not found & (DATA | (OTHERS - {"IPython"}) | {"orbax.checkpoint"})  # Flax imports IPython if it is there
