"""The benchmark of predictions, tiny: the library and transformers' pipeline give the same, and ratios are right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import predict

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[2]
BODY = {"n_positions": 300, "n_embd": 16, "n_layer": 2, "n_head": 2}


def test_the_command_writes_a_table(shared: Path, tmp_path: Path) -> None:
    """It stops by itself where the two sides' probabilities differ."""
    command = [sys.executable, "-m", "benchmarks.predict", "--model", json.dumps(BODY), "--texts", "40"]
    command += ["--repeats", "2", "--batch_sizes", "8", "--data", shared / "ag_news"]
    command += ["--tokenizer", shared / "gpt2_tokenizer", "--results", tmp_path]
    alone = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    subprocess.run(command, cwd=ROOT, env=alone, check=True, capture_output=True, text=True)
    record = json.loads((tmp_path / "predict.json").read_text())
    assert set(record["entries"]) == {"float32", "bfloat16"}
    for entry in record["entries"].values():
        assert set(entry["samples"]) == {"ours", "one by one", "batches of 8", "sorted, batches of 8"}
        assert all(len(samples) == 2 for samples in entry["samples"].values())
        tokens = {tokens for samples in entry["samples"].values() for _, tokens, _ in samples}
        assert tokens == {entry["tokens"]}  # both tokenizers count the same
    assert (tmp_path / "predict.md").read_text() == predict.page(record)


def test_ratios_are_of_medians() -> None:
    samples = {
        "ours": [[1.0, 9, 8], [2.0, 9, 8], [4.0, 9, 8]],
        "batches of 32": [[8.0, 9, 8], [2.0, 9, 8], [4.0, 9, 8]],
    }
    told = dict.fromkeys(
        ("date", "commit", "processor", "backend", "device", "python", "jax", "flax", "optax", "numpy"), "x"
    )
    record = {
        "made": {**told, "load_before": 0.5, "torch": "x", "transformers": "x"},
        "settings": {"model": "124M", "texts": 8, "repeats": 3},
        "entries": {"float32": {"samples": samples}},
    }
    assert "| float32 | ours | 4.00 [2.00 - 8.00] |  |" in predict.page(record)
    assert "| float32 | batches of 32 | 2.00 [1.00 - 4.00] | 2.00 |" in predict.page(record)
