"""Training steps of a trial in a worker process, traced by JAX's profiler, for `benchmarks.profile`."""

import tempfile
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

from benchmarks.support.device_trace import Event, busy, read_events
from benchmarks.support.hlo_text import Operation, operations
from benchmarks.support.model_parts import CONTAINERS, Place, as_kernel, path_of, place_of, place_of_kernel
from benchmarks.support.product_rate import product_rate
from benchmarks.support.training_steps import TrialSteps
from benchmarks.support.trial import Trial
from benchmarks.support.workers import Built
from flax_agnews.training.compiler import Compiled, Compiler
from flax_agnews.training.parallel import Devices

MOST_OPERATIONS = 40
"""Number of single operations that are reported, those that take the most time."""


class RecordingCompiler(Compiler):
    """A compiler that keeps what it has compiled.

    Attributes:
        compiled: each program, and whether it is an update by the optimizer.
    """

    def __init__(self, devices: Devices) -> None:
        super().__init__(devices)
        self.compiled: list[tuple[Compiled, bool]] = []

    def __call__(self, function: Callable[..., Any], *examples: Any, **how: Any) -> Compiled:
        """Compiles a function as `Compiler` does; updates are those that use their state's memory again."""
        found = super().__call__(function, *examples, **how)
        self.compiled.append((found, bool(how.get("donate"))))
        return found


class KnownProgram(NamedTuple):
    """A compiled program's operations by name, and whether it is an update by the optimizer."""

    operations: Mapping[str, Operation]
    update: bool

    def find(self, event: Event, kernels: Mapping[str, str]) -> Operation | None:
        """The operation that an event is of, by its name or (`kernels`) by its kernel's."""
        return self.operations.get(event.operation) or self.operations.get(kernels.get(event.name, ""))


class Attributed(NamedTuple):
    """An event, the part of the model that it belongs to, and its operation where that is known."""

    event: Event
    place: Place
    operation: Operation | None


def attribute(events: Sequence[Event], programs: Sequence[KnownProgram], nested: bool) -> list[Attributed]:
    """Finds each event's operation and part of the model.

    The same function of JAX gives all programs one name, so that a trace's program is the known one with most of the
    events' operations. Events without a program are looked for in all.

    Args:
        events: what a device ran.
        programs: what was compiled.
        nested: whether operations that run others have events too, as on a CPU; they are left out.
    """
    kernels = [as_kernel(list(program.operations)) for program in programs]
    groups: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        groups[event.program].append(event)
    found = []
    for name, group in groups.items():

        def known(number: int, group: Sequence[Event] = group) -> int:
            return sum(programs[number].find(event, kernels[number]) is not None for event in group)

        order = sorted(range(len(programs)), key=known, reverse=True)
        for event in group:
            among = [(programs[n], programs[n].find(event, kernels[n])) for n in (order if not name[0] else order[:1])]
            program, operation = next(((p, o) for p, o in among if o), (None, None))
            if program is None or operation is None:
                found.append(Attributed(event, place_of_kernel(event.name), None))
            elif not nested or operation.kind not in CONTAINERS:
                found.append(Attributed(event, place_of(operation, program.update), operation))
    return found


def by_part(found: Sequence[Attributed], steps: int) -> list[dict[str, Any]]:
    """For each part and direction, the kernels, seconds and bytes of a step."""
    sums: dict[Place, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for event, place, operation in found:
        for name, value in (("seconds", event.seconds), ("bytes", operation.bytes if operation else 0), ("kernels", 1)):
            sums[place][name] += value
    return [{**place._asdict(), **{n: value / steps for n, value in each.items()}} for place, each in sums.items()]


def by_operation(found: Sequence[Attributed], steps: int) -> list[dict[str, Any]]:
    """The operations that take the most time in a step, the slowest first."""
    groups: dict[tuple[tuple[str, str], str], list[Attributed]] = defaultdict(list)
    for one in found:
        groups[one.event.program, one.event.operation or one.event.name].append(one)
    rows = list[dict[str, Any]]()
    for (_, name), every in groups.items():
        operation, seconds = every[0].operation, sum(one.event.seconds for one in every) / steps
        facts = {"kind": operation.kind, "bytes": operation.bytes, "path": path_of(operation)} if operation else {}
        row = {"name": name, "kernel": every[0].event.name, **every[0].place._asdict(), "seconds": seconds, **facts}
        rows.append({**row, "times": len(every) / steps})
    return sorted(rows, key=lambda row: -row["seconds"])[:MOST_OPERATIONS]


def build(trial: Trial, folder: str, repeats: int) -> Built:
    """Trains with and without the profiler; there is nothing else to measure.

    Args:
        trial: the configuration.
        folder: folder for the experiment's files.
        repeats: number of repeats that are traced.
    """
    steps = TrialSteps(trial, folder, RecordingCompiler)
    steps.warm_up(repeats)
    untraced = [steps.measure(repeat) for repeat in range(repeats)]
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory(prefix="profile-") as traces:
        with jax.profiler.trace(traces, profiler_options=options):
            traced = [steps.measure(repeat) for repeat in range(repeats)]
        events = read_events(Path(traces))
    compiler = steps.compiler
    assert isinstance(compiler, RecordingCompiler)
    programs = [KnownProgram(operations(one.wait().as_text()), update) for one, update in compiler.compiled]
    found = attribute(events, programs, nested=jax.default_backend() == "cpu")
    number = sum(len(steps.places(repeat)) for repeat in range(repeats))
    facts = {
        "steps": number,
        "tokens": sum(sample.tokens for sample in traced) / number,
        "seconds": sum(sample.seconds for sample in untraced) / number,
        "traced_seconds": sum(sample.seconds for sample in traced) / number,
        "busy_seconds": busy([one.event for one in found]) / number,
        "flops": sum(steps.flops(repeat) for repeat in range(repeats)) / number,
        "peak_flops_per_second": product_rate(trial.dtype),
        "attention": steps.setup.model.compute.attention,
        "shapes": [shape.tokens for shape in steps.batches.shapes],
        "parts": by_part(found, number),
        "operations": by_operation(found, number),
        "on": {"backend": jax.default_backend(), "device": steps.program.devices.devices[0].device_kind},
    }
    return Built({}, facts)
