"""Times a few updates and evaluation batches of a compiled strategy, and tells from them how long its runs take."""

import copy
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import jax

from flax_agnews.training.program import Program
from flax_agnews.training.state import TrainState

_ENOUGH = 0.6  # seconds to measure for each shape; a first call that takes longer is measured itself
_MOST = 12  # updates for each shape


def update_seconds(program: Program, seeds: Sequence[int], epochs: range) -> float:
    """Seconds of the updates of a group of runs, by those of a few of each stage and shape.

    Args:
        program: the compiled strategy; compiled for groups of this size.
        seeds: seeds of the runs, which train together.
        epochs: the epochs that are left to do. The shapes of a stage's first epoch stand for all of its epochs.
    """
    state, frozen = program.start_together(seeds)
    total, firsts = 0.0, dict[int, int]()
    for epoch in epochs:
        firsts.setdefault(program.setup.stage_of(epoch), epoch)
    times = Counter(map(program.setup.stage_of, epochs))
    for stage, epoch in firsts.items():
        batches = program.by_stage[stage]
        shapes = [batches.joint_shape(seeds, epoch, step) for step in range(batches.steps_per_epoch)]
        for shape, number in Counter(shapes).items():

            def update(state: TrainState, epoch: int = epoch, step: int = shapes.index(shape)) -> Any:
                return program.train_together(state, frozen, seeds, epoch, step)[0]

            state, seconds = _seconds(update, state)
            total += times[stage] * number * seconds
    return total


def _seconds(update: Callable[[TrainState], TrainState], state: TrainState) -> tuple[TrainState, float]:
    """The state after some updates, and the seconds of one; several are begun before the first is waited for."""
    started = time.perf_counter()
    state = jax.block_until_ready(update(state))
    first = time.perf_counter() - started
    if first > _ENOUGH:
        return state, first
    number = max(2, min(_MOST, int(_ENOUGH / first)))
    started = time.perf_counter()
    for _ in range(number):
        state = update(state)
    jax.block_until_ready(state)
    return state, (time.perf_counter() - started) / number


def evaluation_seconds(program: Program, seed: int) -> dict[str, float]:
    """Name of a split -> seconds to evaluate one run on it, by those of a batch of each shape.

    Args:
        program: the compiled strategy.
        seed: seed of the run.
    """
    state, frozen = program.start(seed)
    params = program.devices.first(state.params)
    found = dict[str, float]()
    for name, batches in program.evaluated.items():
        chosen, found[name] = batches.chosen, 0.0
        for shape, number in Counter(chosen).items():
            one = copy.copy(program)  # which evaluates this batch alone
            one.evaluated = {name: batches.only([chosen.index(shape)])}
            for _ in range(2):  # the first time, arrays are copied and programs begun
                started = time.perf_counter()
                one.evaluate(params, frozen, name)
                seconds = time.perf_counter() - started
                if seconds > _ENOUGH:
                    break
            found[name] += number * seconds
    return found
