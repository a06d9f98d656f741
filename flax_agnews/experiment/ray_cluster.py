"""The Ray cluster that a comparison runs on: joining it, what a task needs of it, and whether its nodes are fit for it.

Ray is imported where it is used: it is slow to import, and not everybody has it.
"""

import importlib.metadata
import logging
import os
import signal
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flax_agnews import __version__
from flax_agnews.config import ParallelConfig
from flax_agnews.errors import UserError, first_line, flag, listed
from flax_agnews.runs.shards import Shard
from flax_agnews.system.text import counted

_TOKEN = ".ray-"  # beginning of the name of a file in the output folder, by which nodes show that they see it

_ENGINE = flag("parallel.engine")
_QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": "^",  # every line: Ray prints what becomes of nodes among the progress bars
    "RAY_SCHEDULER_EVENTS": "0",
}
"""Environment variables that Ray reads when it is imported."""


@dataclass(frozen=True)
class Needs:
    """What each task takes of its node: `gpus` GPUs and `cpus` processor cores."""

    gpus: int
    cpus: int

    def fit(self, node: Mapping[str, float]) -> bool:
        """Whether a node with such resources can run a task."""
        return node.get("GPU", 0) >= self.gpus and node.get("CPU", 0) >= self.cpus

    def __str__(self) -> str:
        gpus = f"{counted(self.gpus, 'GPU')} and " if self.gpus else ""
        return gpus + counted(self.cpus, "core")


def needs(config: ParallelConfig, nodes: Sequence[Mapping[str, float]]) -> Needs:
    """What each task takes: the settings, or else a GPU, or where there are none, a node's processors.

    On processors, a run uses all cores of its machine anyway: with several on a machine, each would be slower, and
    would need memory of its own.

    Args:
        config: the settings.
        nodes: Ray's resources of each node, such as {"CPU": 8.0, "GPU": 1.0}.
    """
    gpus = config.task_gpus
    if gpus is None:
        gpus = (config.devices or 1) if any(node.get("GPU", 0) >= 1 for node in nodes) else 0
    cpus = config.task_cpus
    if cpus is None:
        cpus = 1 if gpus else min((int(node["CPU"]) for node in nodes if node.get("CPU", 0) >= 1), default=1)
    return Needs(gpus, cpus)


def check_settings(config: ParallelConfig) -> None:
    """Raises a `UserError` where settings of Ray contradict others."""
    if config.engine != "ray":
        given = {name: getattr(config, name) for name in ("address", "task_gpus", "task_cpus")}
        if wrong := next((name for name, value in given.items() if value is not None), None):
            raise UserError(f"{flag(f'parallel.{wrong}')} {given[wrong]}: needs {_ENGINE} ray")
        return
    if config.coordinator is not None:
        raise UserError(
            f"{_ENGINE} ray: one process starts the tasks, each on one node; leave out {flag('parallel.coordinator')}, "
            "which is for one run over several nodes"
        )
    if not Shard.of(config.shard).whole:
        raise UserError(f"{_ENGINE} ray: Ray distributes all runs; leave out {flag('parallel.shard')}")


def connect(config: ParallelConfig) -> None:
    """Joins the Ray cluster as its driver, unless this process has; nothing of Ray's is printed.

    Raises:
        UserError: Ray isn't installed, or no cluster answers.
    """
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    try:
        import ray
    except ImportError:
        raise UserError(f"{_ENGINE} ray: Ray is not installed. Run pip install 'flax_agnews[ray]'") from None
    if ray.is_initialized():
        return
    address = config.address or "auto"
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        how = "Start one with ray start --head, on each other node ray start --address HOST:PORT"
        where = f"{_ENGINE} ray, {flag('parallel.address')} {address}"
        raise UserError(f"{where}: no cluster to join ({first_line(error)}). {how}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray's own would exit at once, with another code


def alive() -> list[dict[str, Any]]:
    """The cluster's nodes that are alive, as Ray describes them."""
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def token_of(folder: Path) -> str:
    """The name of the token in a driver's output folder: a file with a name that no node has looked for before."""
    return next(folder.glob(f"{_TOKEN}*")).name


def remove_tokens(folder: Path) -> None:
    """Removes the token from a driver's output folder, and those of killed drivers."""
    for path in folder.glob(f"{_TOKEN}*"):
        path.unlink(missing_ok=True)


def check_nodes(folder: Path, config: ParallelConfig) -> str:
    """Writes a token into the output folder, and has every node that can run a task look for it.

    Args:
        folder: the output folder.
        config: the settings.

    Returns:
        What the cluster is, in words.

    Raises:
        UserError: nodes don't see the folder, or have other versions of this package or of JAX than this process.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    remove_tokens(folder)
    token, nodes = f"{_TOKEN}{uuid.uuid4().hex}", alive()
    (folder / token).touch()
    each = needs(config, [node["Resources"] for node in nodes])
    fit = [node for node in nodes if each.fit(node["Resources"])]
    look = ray.remote(num_cpus=0, max_retries=0)(seen)
    asked = [look.options(scheduling_strategy=On(node["NodeID"], soft=False)).remote(folder, token) for node in fit]
    found: dict[str, Mapping[str, str] | str] = {}
    for node, answer in zip(fit, asked, strict=True):
        try:
            found[node["NodeManagerAddress"]] = ray.get(answer)
        except ray.exceptions.RayError as error:  # the node died, or has no such package
            found[node["NodeManagerAddress"]] = first_line(error.__cause__ or error)
    if wrong := unfit(found, seen(folder, token), folder):
        raise UserError(wrong)
    waiting = "" if fit else f"; waits for a node that has {each}"
    return f"{counted(len(nodes), 'node')}, {len(fit)} of them for runs, {each} each{waiting}"


def seen(folder: Path, token: str) -> dict[str, str]:
    """What a node sees: whether the token is in the folder, `yes` or `no`, and versions of packages by name."""
    token = "yes" if (folder / token).exists() else "no"
    return {"token": token, "flax_agnews": __version__, "jax": importlib.metadata.version("jax")}


def unfit(found: Mapping[str, Mapping[str, str] | str], here: Mapping[str, str], folder: Path) -> str:
    """Why nodes can't take part, in one line; empty where all can.

    Args:
        found: address of a node -> what it sees, as `seen` returns it, or why it gave no answer.
        here: what the driver sees.
        folder: the output folder.
    """
    blind = [address for address, what in found.items() if not isinstance(what, str) and what["token"] != "yes"]
    if blind:
        nodes = f"{counted(len(blind), 'node')} of the Ray cluster ({listed(blind)})"
        return f"{flag('output')} {folder}: isn't seen from {nodes}; choose a folder that all share, under one path"
    for address, what in found.items():
        if isinstance(what, str):
            return f"{_ENGINE} ray: node {address} can't run this program ({what}); install the same there as here"
        if other := [name for name in here if what[name] != here[name]]:
            versions = listed(f"{name} {what[name]} (here {here[name]})" for name in other)
            return f"{_ENGINE} ray: node {address} has {versions}; install the same versions there"
    return ""
