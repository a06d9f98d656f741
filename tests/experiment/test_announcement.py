"""The reason for the number of batch shapes, in the line on the plan."""

import math

import pytest

from flax_agnews.data.shapes import MOST, Choice
from flax_agnews.experiment.announcement import shapes_text


@pytest.mark.parametrize(
    ("number", "choice", "text"),
    [
        (3, None, "3 shapes"),
        (1, Choice(1, 3.02, 0.0), "1 shape, no more would save anything"),
        (MOST, Choice(MOST, 3.02, math.nan), f"{MOST} shapes, the most"),
        (
            2,
            Choice(2, 3.02, 1.25),
            "2 shapes (for each strategy, one more would cost 3.0 s to compile and save 1.2 s of padding)",
        ),
    ],
)
def test_the_number_of_shapes_has_its_reason(number: int, choice: Choice | None, text: str) -> None:
    assert shapes_text(number, choice) == text
