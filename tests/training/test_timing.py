"""Times of runs from a few steps: with a clock that only the steps move, they are the sum over all steps."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from flax_agnews.training import timing

SPLITS = {"validation": ["small", "small", "large"], "test": ["large", "large"]}
SECONDS = {"small": 0.25, "large": 0.5, "huge": 4.0}


class Clock:
    """A clock that stands still between steps."""

    now, steps = 0.0, 0

    def perf_counter(self) -> float:
        return self.now

    def pass_by(self, shape: str) -> None:
        self.now += SECONDS[shape]
        self.steps += 1


class Batches:
    """Training batches of a stage; a step's shape is given."""

    def __init__(self, shapes: list[str]) -> None:
        self.shapes, self.steps_per_epoch = shapes, len(shapes)

    def joint_shape(self, seeds: Any, epoch: int, step: int) -> str:
        return self.shapes[step]


class Evaluated:
    """Evaluation batches, or some of them."""

    def __init__(self, chosen: list[str]) -> None:
        self.chosen = chosen

    def only(self, numbers: list[int]) -> "Evaluated":
        return Evaluated([self.chosen[number] for number in numbers])


class Program:
    """A program of two stages, the second from epoch 1 on, whose steps move the clock."""

    by_stage = (Batches(["small", "large", "small"]), Batches(["large", "huge", "large"]))
    setup = SimpleNamespace(stage_of=lambda epoch: int(epoch > 0))
    devices = SimpleNamespace(first=lambda tree: tree)

    def __init__(self, clock: Clock, evaluated: dict[str, Evaluated]) -> None:
        self.clock, self.evaluated = clock, evaluated

    def start(self, seed: int) -> Any:
        return SimpleNamespace(params={}), {}

    def start_together(self, seeds: Any) -> Any:
        return np.zeros(1), {}

    def train_together(self, state: Any, frozen: Any, seeds: Any, epoch: int, step: int) -> Any:
        self.clock.pass_by(self.by_stage[int(epoch > 0)].shapes[step])
        return state, {}

    def evaluate(self, params: Any, frozen: Any, name: str) -> None:
        for shape in self.evaluated[name].chosen:
            self.clock.pass_by(shape)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> Any:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return Program(clock, {name: Evaluated(chosen) for name, chosen in SPLITS.items()})


@pytest.mark.parametrize("epochs", [range(1), range(3), range(2, 5)])
def test_seconds_of_updates_are_the_sum_over_all_of_them(program: Any, epochs: range) -> None:
    every = [shape for epoch in epochs for shape in program.by_stage[int(epoch > 0)].shapes]
    assert timing.update_seconds(program, [1, 2], epochs) == sum(SECONDS[shape] for shape in every)


def test_long_updates_are_made_once(program: Any) -> None:
    timing.update_seconds(program, [1], range(1, 2))
    assert program.clock.steps == 1 + 2 + 1  # large: one to begin with and two timed; huge: one


def test_seconds_of_evaluation_are_the_sum_over_all_batches(program: Any) -> None:
    found = timing.evaluation_seconds(program, seed=1)
    assert found == {name: sum(SECONDS[shape] for shape in chosen) for name, chosen in SPLITS.items()}
