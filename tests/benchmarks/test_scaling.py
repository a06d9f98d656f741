"""The benchmark of several devices: its arithmetic, and a whole small measurement."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import scaling
from benchmarks.support.result_files import ResultFiles

TINY = {"vocab_size": 300, "n_positions": 128, "n_embd": 32, "n_layer": 2, "n_head": 2}
ON = {"backend": "cpu", "device": "simulated"}


def page_of(folder: Path, **entries: Any) -> str:
    files = ResultFiles(folder, "scaling", {"texts": 64, "repeats": 3, "large": {}}, scaling.page, None)
    for name, entry in entries.items():
        files.add(name, entry, ON)
    return (folder / "scaling.md").read_text("utf-8")


def test_runs_a_minute_and_overhead_are_of_medians(tmp_path: Path) -> None:
    def turns(wall: float, processor: float) -> list[dict[str, float]]:
        return [{"runs": 8, "wall": wall * x, "processor": processor * x} for x in (1, 9, 0.5)]

    page = page_of(tmp_path, runs={"1": turns(40, 20), "4": turns(16, 25)})
    assert "| 1 | 12.0 | 40.0 | 20.0 | 1.00 |" in page
    assert "| 4 | 30.0 | 16.0 | 25.0 | 1.25 |" in page


def test_what_devices_send_is_added_up_by_weights(tmp_path: Path) -> None:
    entry = {"weights": 100e6, "sent": {"all-gather": 150e6, "reduce-scatter": 75e6}, "arguments": 3e8}
    page = page_of(tmp_path, split={"4": {**entry, "temporaries": 2e8}})
    assert "| devices | all-gather | reduce-scatter |" in page
    assert "| 4 | 150 | 75 | 2.25 | 300 | 200 |" in page


def test_processes_have_simulated_devices_of_one_thread() -> None:
    flags = scaling.environment(4)["XLA_FLAGS"].split()
    assert "--xla_force_host_platform_device_count=4" in flags
    assert "intra_op_parallelism_threads=1" in flags


@pytest.mark.long
def test_a_small_measurement(tmp_path: Path) -> None:
    """With two devices, gathers and scatters of a split step move less than all weights, thrice."""
    flags = ["--texts", "64", "--repeats", "1", "--devices", "2", "--large", json.dumps(TINY)]
    scaling.main([*flags, "--results", str(tmp_path)])
    found = json.loads((tmp_path / "scaling.json").read_text("utf-8"))["entries"]
    [sample] = found["runs"]["2"]
    assert sample["runs"] == len(scaling.STRATEGIES) * scaling.SEEDS
    sent, weights = found["split"]["2"]["sent"], found["split"]["2"]["weights"]
    assert 0.5 * weights < sent["all-gather"] + sent["reduce-scatter"] <= 1.5 * weights
