"""A comparison on a real Ray cluster of three nodes on loopback: interrupted, resumed, and with a node killed."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.small_experiments import ONE_LAYER, results, small, start, without_cost

from flax_agnews.main import main

SECONDS = 600  # until a busy machine has imported and compiled
FLAGS = (
    *("--strategy", "full", "--train.runs", 2, "--train.epochs", 8, "--train.batch_size", 4, *ONE_LAYER),
    *("--data.limit_train", 400, "--checkpoint.every_steps", 30, "--checkpoint.keep_final", "false"),
    *("--pretrain.epochs", 1, "--search.trials", 2, "--search.budget", 0.3),
)
RUNS = [f"full/seed-{seed}" for seed in (42, 43)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A head that runs nothing, and two nodes that run one task each; their processes find this package."""
    utilities = pytest.importorskip("ray.cluster_utils", reason="Ray isn't installed", exc_type=ImportError)
    root = str(Path(__file__).resolve().parents[2])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ["PYTHONPATH"]]))
    cores = len(os.sched_getaffinity(0))
    node = {"num_cpus": cores, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    made = utilities.Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
    try:
        for _ in range(2):
            made.add_node(**node)
        yield made
    finally:
        made.shutdown()


def wait_for_step(process: "subprocess.Popen[str]", output: Path, step: int) -> None:
    """Waits until a run has a checkpoint of a step, or of a later one; the other may still begin."""
    end = time.monotonic() + SECONDS
    while not any(saved(output / run) >= step for run in RUNS):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def saved(run: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in run.glob("checkpoints/step-*")), default=0)


def kill(node: Any) -> None:
    """Kills a node's processes, as when its machine fails: without the workers, these would go on for a while."""
    [raylet] = [process.process.pid for process in node.all_processes["raylet"]]
    workers = subprocess.run(["pgrep", "-P", str(raylet)], capture_output=True, text=True, check=True).stdout.split()
    for pid in (raylet, *map(int, workers)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.faults
@pytest.mark.filterwarnings("ignore")  # Ray's own, of its processes' pipes; the command runs in another process
def test_an_interrupted_comparison_that_loses_a_node_gives_the_bytes_of_a_local_one(
    cluster: Any, tmp_path: Path
) -> None:
    output, alone = tmp_path / "ray", tmp_path / "alone"
    arguments = small(output, *FLAGS, "--parallel.engine", "ray", "--parallel.address", cluster.address)

    first = start(arguments)
    wait_for_step(first, output, 30)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=SECONDS)
    assert first.returncode == 130, out + err
    assert "saved at full/seed-4" in out.splitlines()[-1]
    assert "Traceback" not in err

    second = start(arguments)
    wait_for_step(second, output, max(saved(output / run) for run in RUNS) + 30)
    kill(next(iter(cluster.worker_nodes)))
    out, err = second.communicate(timeout=SECONDS)
    assert second.returncode == 0, out + err
    assert "again: its node or process was lost" in out
    assert "goes on at step" in out
    assert "raylet" not in out + err
    assert not list(output.glob(".ray-*"))

    assert main(small(alone, *FLAGS)) == 0
    for run in RUNS:
        for file in ("predictions.parquet", "metrics.jsonl"):
            assert (output / run / file).read_bytes() == (alone / run / file).read_bytes(), f"{run}/{file}"
    ours, theirs = (without_cost(results(folder))["runs"] for folder in (output, alone))
    assert ours == theirs
