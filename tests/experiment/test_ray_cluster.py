"""What a task needs of a Ray cluster, and which nodes are fit for it; without a cluster."""

import sys
from pathlib import Path
from typing import Any

import pytest

from flax_agnews.config import ParallelConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.ray_cluster import Needs, check_settings, connect, needs, remove_tokens, seen, unfit

GPU_NODE, HEAD, SMALL, LARGE = {"CPU": 32.0, "GPU": 4.0}, {"CPU": 0.0}, {"CPU": 8.0}, {"CPU": 64.0}


@pytest.mark.parametrize(
    ("settings", "nodes", "expected"),
    [
        ({}, [HEAD, GPU_NODE], Needs(1, 1)),
        ({"devices": 2}, [HEAD, GPU_NODE], Needs(2, 1)),
        ({"devices": 2, "task_gpus": 4, "task_cpus": 8}, [GPU_NODE], Needs(4, 8)),
        ({"task_gpus": 0}, [GPU_NODE, SMALL], Needs(0, 8)),  # on processors: a node's cores
        ({}, [HEAD, LARGE, SMALL, SMALL], Needs(0, 8)),
        ({"devices": 1}, [LARGE], Needs(0, 64)),  # `devices` counts JAX's, of which a CPU is one
        ({"task_cpus": 16}, [LARGE], Needs(0, 16)),
        ({}, [HEAD], Needs(0, 1)),  # nodes may come later
    ],
)
def test_a_task_takes_a_gpu_or_a_nodes_cores(
    settings: dict[str, Any], nodes: list[dict[str, float]], expected: Needs
) -> None:
    assert needs(ParallelConfig(engine="ray", **settings), nodes) == expected


def test_nodes_with_enough_devices_are_fit() -> None:
    assert [Needs(2, 8).fit(node) for node in (GPU_NODE, HEAD, LARGE)] == [True, False, False]
    assert [Needs(0, 8).fit(node) for node in (GPU_NODE, HEAD, SMALL)] == [True, False, True]


def test_nodes_that_dont_see_the_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / ".ray-1").touch()
    here, elsewhere = seen(tmp_path, ".ray-1"), seen(tmp_path / "another", ".ray-1")
    assert unfit({"10.0.0.1": here}, here, tmp_path) == ""
    (line,) = unfit({"10.0.0.1": here, "10.0.0.2": elsewhere, "10.0.0.3": elsewhere}, here, tmp_path).splitlines()
    assert "2 nodes" in line
    assert "10.0.0.2, 10.0.0.3" in line
    assert str(tmp_path) in line
    assert "10.0.0.1" not in line
    remove_tokens(tmp_path)
    assert unfit({"10.0.0.1": seen(tmp_path, ".ray-1")}, here, tmp_path)


def test_nodes_with_other_versions_or_without_the_package_are_named(tmp_path: Path) -> None:
    (tmp_path / ".ray-1").touch()
    here = seen(tmp_path, ".ray-1")
    older = unfit({"10.0.0.2": here | {"jax": "0.1"}}, here, tmp_path)
    assert "10.0.0.2 has jax 0.1 (here " in older
    missing = unfit({"10.0.0.3": "No module named 'flax_agnews'"}, here, tmp_path)
    assert "10.0.0.3 can't run this program (No module named 'flax_agnews')" in missing


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"address": "auto"}, "parallel.address auto: needs parallel.engine ray"),
        ({"task_gpus": 1}, "parallel.task_gpus 1: needs"),
        ({"engine": "ray", "coordinator": "auto"}, "leave out parallel.coordinator"),
        ({"engine": "ray", "shard": "1/2"}, "leave out parallel.shard"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(UserError) as refused:
        check_settings(ParallelConfig(**settings))
    assert named in str(refused.value)


def test_without_ray_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as refused:
        connect(ParallelConfig(engine="ray"))
    assert refused.value.with_flags.startswith("--parallel.engine ray: ")
    assert "pip install 'flax_agnews[ray]'" in str(refused.value)
