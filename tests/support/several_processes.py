"""Several real processes on loopback, two simulated devices each; and what one of them does for contract 7."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from flax_agnews.config import Config, ParallelConfig, TrainConfig
from flax_agnews.data.encoded import Data
from flax_agnews.errors import UserError
from flax_agnews.training.activation_cache import Activations
from flax_agnews.training.parallel import Devices
from flax_agnews.training.processes import start
from flax_agnews.training.state import create_state
from flax_agnews.training.step import (
    classification_loss,
    inputs_of_gradients,
    make_gradient_step,
    make_update_step,
)
from support import small_experiments, tiny
from support.strategy_setups import BODY

SECONDS = 300  # until a busy machine has imported and compiled
ENVIRONMENT = {**os.environ, "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2")}
STEPS = 20

Process = subprocess.Popen[str]


def address() -> str:
    """A free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def numbered(where: str, number: int, count: int = 2) -> list[str]:
    """The flags that make a process one of several."""
    flags = {"coordinator": where, "processes": count, "process": number}
    return [part for name, value in flags.items() for part in (f"--parallel.{name}", str(value))]


@contextmanager
def commands(*arguments: Sequence[str]) -> Iterator[list[Process]]:
    """The command in processes that train as one, with these arguments each; none is left behind."""
    where = address()
    started = [
        small_experiments.start([*own, *numbered(where, number, len(arguments))], ENVIRONMENT)
        for number, own in enumerate(arguments)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def ended(started: Sequence[Process], seconds: float = SECONDS) -> list[tuple[int, str, str]]:
    """Exit code, output and errors of each; all must end in time."""
    end, results = time.monotonic() + seconds, []
    for process in started:
        out, err = process.communicate(timeout=max(0.1, end - time.monotonic()))
        results.append((process.returncode, out, err))
    return results


def wait(started: Sequence[Process], until: Callable[[], bool]) -> None:
    """Until something is so, while all are running."""
    end = time.monotonic() + SECONDS
    while not until():
        for process in started:
            assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.002)


# --- contract 7: what each of the processes computes


def course(name: str, where: Devices) -> tuple[dict[str, np.ndarray], list[float]]:
    """(gradients of the first batch, losses of 20 steps) of a strategy, with dropout; the same texts on any devices."""
    setup = tiny.prepare(name, tiny.random_base(BODY))
    split = tiny.random_split(tiny.random_lengths(35, longest=90))
    batches = tiny.planned(split, devices=len(where), most_shapes=1, epochs=4)
    gradient_step, update_step = make_gradient_step(setup, classification_loss), make_update_step(setup)

    def both(state, frozen, batch):
        sums, gradients = gradient_step(inputs_of_gradients(state), frozen, batch)
        return update_step(state, (), (sums, gradients)), gradients

    state, frozen = create_state(setup, where.shared(dict(setup.model.base.parameters)), 0)
    state, frozen = where.state(state), where.shared(frozen)
    compiled, first, losses = None, {}, []
    for number in range(STEPS):
        batch = where.batch(batches.batch(0, *divmod(number, batches.steps_per_epoch))[1])
        compiled = compiled or where.compile(both, state, frozen, batch, donate=False)
        (state, metrics), gradient = compiled(state, frozen, batch)
        metrics, gradient = where.first((metrics, gradient))
        first = first or {path: np.asarray(value) for path, value in gradient.items()}
        losses.append(float(metrics["loss"]) / float(metrics["weight"]))
    copies = [[np.asarray(shard.data) for shard in leaf.addressable_shards] for leaf in jax.tree.leaves(state)]
    assert all(np.array_equal(one[0], other) for one in copies for other in one)
    return first, losses


def main(where: str, number: str, names: str, folder: str) -> None:
    """One of two processes: writes what it computed."""
    start(ParallelConfig(coordinator=where, processes=2, process=int(number)))
    devices = Devices.of(ParallelConfig())
    assert (len(devices), len(devices.here), devices.team.count) == (4, 2, 2)
    for name in names.split(","):
        gradients, losses = course(name, devices)
        path = Path(folder) / f"{name}-{number}"
        np.savez(path.with_suffix(".npz"), **gradients)
        path.with_suffix(".json").write_text(json.dumps(losses))
    if devices.team.is_first:
        (Path(folder) / "refused.json").write_text(json.dumps(list(refusals(devices))))


def refusals(devices: Devices) -> Iterator[str]:
    """What is said where something is for one process."""
    config, split = Config(train=TrainConfig(cache_frozen="on")), tiny.random_split([3])
    data = Data("random", ["a"], split, split, split)
    for act in (lambda: Devices.of(ParallelConfig(mode="pmap")), lambda: Activations(config, data, devices).check([])):
        try:
            act()
        except UserError as error:
            yield error.with_flags


if __name__ == "__main__":
    main(*sys.argv[1:])
