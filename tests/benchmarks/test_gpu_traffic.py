"""The benchmark of what a training step moves on a GPU: the counts that are promised, and its page."""

from pathlib import Path

import pytest

from benchmarks import gpu_traffic
from benchmarks.support.gpu_programs import CASES
from benchmarks.support.gpu_target import MISSING, available

ROOT = Path(__file__).resolve().parents[2]

MOST = 437
"""Units (bytes of tokens x width) that a middle layer may move with dropout 0.1, in blocks."""


@pytest.mark.long
@pytest.mark.skipif(not available(), reason=MISSING)
def test_a_middle_layer_moves_no_more_than_promised():
    # A batch of few texts would compile as slowly, and weights would count for more.
    _, entry = next(gpu_traffic.measured(ROOT, 512, CASES[0].name))
    assert gpu_traffic.units(entry) < MOST
    # Hidden units of the MLP are four times the width, of two bytes: read and written; backward, two read, one written.
    activations = [gpu_traffic.units(entry, backward, "activations") for backward in (False, True)]
    assert activations == [pytest.approx(2 * 8, rel=0.01), pytest.approx(3 * 8, rel=0.01)]


def test_without_the_plugin_one_line_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_traffic, "available", lambda: False)
    with pytest.raises(SystemExit, match=r"^benchmarks\.gpu_traffic needs JAX's plugin for CUDA.*jax\[cuda12\]$"):
        gpu_traffic.main(["--results", str(tmp_path)])


def test_the_page_adds_up_layers_and_update():
    parts = [("linear products", False, 30), ("linear products", True, 70), ("norms", True, 50)]
    rows = [{"part": part, "backward": backward, "units": units} for part, backward, units in parts]
    gradients = {"version": "now", "name": "blocks", "tokens": 10_000, "parts": rows, "rest": 400}
    made = dict.fromkeys(("date", "commit", "processor", "backend", "device"), "")
    made |= {"load_before": 0.0, **dict.fromkeys(("python", "jax", "flax", "optax", "numpy"), "")}
    entries = {"a": gradients, "b": {"version": "now", "name": "update", "units": 8.0}}
    page = gpu_traffic.page({"made": made, "settings": {"texts": 512}, "entries": entries})
    assert "| linear products | 30 + 70 |" in page
    assert "| all | **150** |" in page
    # (400 + 10 x 150) x 10,000 x 768 bytes = 14.6 GB, and 8 x 4 bytes x 124 million weights = 4.0 GB. Without the
    # products of eleven layers, 8.4 GB: 10.1 GB, of which an H100 moves 3.0 a millisecond.
    assert "| blocks | 18.6 | 10.1 | 6.9 | 3.4 | 2.4 |" in page
