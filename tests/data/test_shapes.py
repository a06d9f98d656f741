"""The planned shapes of batches: which ones are planned, and which one a batch gets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import tiny

from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.shapes import (
    BLOCK,
    LEVELS,
    MOST,
    Price,
    Shape,
    choose,
    chosen_shapes,
    plan_shapes,
    planned_epochs,
)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.integers(1, 4))
def test_shapes_of_like_texts_cost_least(blocks, most):
    needs = [tiny.even(b, slots=3, lookback=1) for b in blocks]
    shapes = plan_shapes(needs, most)
    assert len(shapes) <= most
    ours = sum(choose(need, shapes).tokens for need in needs)
    sizes = sorted(set(blocks))
    best = min(
        sum(min(size for size in cuts if size >= b) for b in blocks)
        for used in range(1, most + 1)
        for cuts in itertools.combinations(sizes, used)
        if cuts[-1] == sizes[-1]
    )
    assert ours == best * BLOCK


def test_a_batch_with_a_long_text_does_not_make_all_look_back():
    usual, long = tiny.even(20, slots=8, lookback=2), tiny.even(20, slots=8, lookback=8)
    shapes = plan_shapes([*[usual] * 99, long], most=2)
    assert [choose(need, shapes) for need in (usual, long)] == [usual, long]


def test_a_batch_above_the_micro_batch_limit_is_split():
    split = tiny.random_split([100] * 8)
    shapes = tiny.planned(split, devices=2, micro_batch_tokens=128).shapes
    # 800 tokens over 2 devices with at most 128 at once: 4 micro-batches of one text each. Its 100 tokens are four
    # blocks, of which the last looks back three blocks (so four, the next level): all four do, longest text first.
    reach = tuple(4 if level <= 4 else 0 for level in LEVELS)
    assert shapes == [Shape(slots=1, micro_batches=4, reach=reach)]


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, tiny.LONGEST), min_size=2, max_size=30),
    st.integers(1, 9),
    st.integers(1, 4),
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([None, Price(3.0, 0.01, 5), Price(1e-9, 0.01, 5)]),
)
def test_more_epochs_leave_every_batch_in_its_shape(lengths, batch_size, most, epochs, more, price) -> None:
    split = tiny.random_split(lengths)

    def planned(count: int) -> TrainBatches:
        plan = {"batch_size": batch_size, "most_shapes": most, "price": price}
        return tiny.planned(split, **plan, epochs=count, seeds=(0, 1))

    few, many = planned(epochs), planned(epochs + more)
    for seed in (0, 1):
        for epoch in range(epochs):
            for step in range(few.steps_per_epoch):
                ours, theirs = few.batch(seed, epoch, step), many.batch(seed, epoch, step)
                assert ours[0] == theirs[0]
                np.testing.assert_array_equal(ours[1].ids, theirs[1].ids)
        for step in range(many.steps_per_epoch):
            assert many.batch(seed, epochs + more - 1, step)[0] in many.shapes


@pytest.mark.parametrize("steps", [1, 36, 844, 5000, 28_000])
def test_plans_of_any_length_begin_alike(steps: int) -> None:
    long = planned_epochs(100, steps)
    assert [epoch for span in long for epoch in span] == list(range(long[-1].stop))
    for epochs in range(1, 101):
        spans = planned_epochs(epochs, steps)
        assert spans == long[: len(spans)]
        assert spans[-1].stop >= epochs
        assert len(spans) <= 8  # each may add a shape: few, however long a run is


# Their number, where it is chosen


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=30), st.floats(0.01, 30), st.floats(0.001, 3))
def test_chosen_shapes_take_least_time_of_all_that_could_be(blocks: list[int], compiling: float, block: float) -> None:
    """Against every set of sizes: batches of like texts differ in nothing else."""
    needs = [tiny.even(size, slots=3, lookback=1) for size in blocks]
    shapes, choice = chosen_shapes(needs, compiling, block)
    costs = {need.tokens: need.cost for need in needs}

    def computed(sizes: tuple[int, ...]) -> float:
        return block * sum(costs[min(size for size in sizes if size >= need.tokens)] for need in needs)

    def least(most: int) -> float:
        sets = (sizes for used in range(1, most + 1) for sizes in itertools.combinations(costs, used))
        return min(computed(sizes) for sizes in sets if max(sizes) == max(costs))

    ours = compiling * len(shapes) + computed(tuple(shape.tokens for shape in shapes))
    assert ours == pytest.approx(min(compiling * most + least(most) for most in range(1, MOST + 1)))
    assert (choice.shapes, choice.compiling) == (len(shapes), compiling)
    if choice.shapes < MOST:
        assert choice.saving == pytest.approx(least(choice.shapes) - least(choice.shapes + 1), abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, tiny.LONGEST), min_size=2, max_size=40), st.integers(1, 9), st.floats(0.001, 1))
def test_the_more_is_computed_the_more_shapes_there_are(lengths: list[int], batch_size: int, block: float) -> None:
    split = tiny.random_split(lengths)

    def number(block: float, passes: float) -> int:
        return len(tiny.planned(split, batch_size=batch_size, epochs=5, price=Price(1.0, block, passes)).shapes)

    numbers = [number(block, passes) for passes in (1, 2, 10, 100, 10_000)]
    assert numbers == sorted(numbers)
    assert number(0.0, 5) == 1
    assert numbers[0] <= number(4 * block, 1) <= numbers[2]


def test_seeds_side_by_side_compute_as_much_and_compile_each_group() -> None:
    """One seed three times, so that every group has the same batches; groups of two and of one are two programs."""
    split = tiny.random_split(tiny.random_lengths(60))
    alone, together, uneven = (
        tiny.planned(split, seeds=(0, 0, 0), together=many, price=Price(1e6, 1.0, 1)).choice for many in (1, 3, 2)
    )
    assert (alone.compiling, together.compiling, uneven.compiling) == (1e6, 1e6, 2e6)
    assert alone.saving == pytest.approx(together.saving) == pytest.approx(uneven.saving)
    assert alone.saving > 0
