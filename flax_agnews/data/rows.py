"""What every source hands over: the rows of its splits as they stand; and the checks that all share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flax_agnews.config import DataConfig
from flax_agnews.data.arrays import machine_memory
from flax_agnews.errors import UserError, listed, shown

MOST_CLASSES = 10_000
Text = str | tuple[str, str]
"""A text, or a pair of texts."""


@dataclass(frozen=True)
class Rows:
    """One split as its source has it; texts and labels are not checked yet.

    Args:
        place: File, or hub id and split, for messages.
        texts: Values of the text column; where there are two, tuples of both.
        labels: Values of the label column.
        numbers: Where in `place` each row stands, counted from 1.
        unit: What `numbers` count.
        names: Class names that the label column's own type declares (ClassLabel): its labels are positions in them.
    """

    place: str
    texts: Sequence[object]
    labels: Sequence[object]
    numbers: Sequence[int]
    unit: str = "row"
    names: Sequence[str] | None = None

    def at(self, index: int) -> str:
        """`data/train.csv line 7`: where row `index` (from 0) stands."""
        return f"{self.place} {self.unit} {self.numbers[index]}"


@dataclass(frozen=True)
class Found:
    """What a source has: `splits` train, test and perhaps validation.

    Attributes:
        splits: their rows, by name.
        names: class names that are declared beside the rows (`classes.txt`).
        notes: what was read otherwise than one may expect, for the line about the data: `3 rows without label`.
    """

    splits: Mapping[str, Rows]
    names: list[str] | None = None
    notes: Sequence[str] = ()


def check_columns(config: DataConfig, place: str, columns: Sequence[str]) -> None:
    """Raises a `UserError` unless `place` has the text columns and the label column, each once."""
    texts = [("text_column", column) for column in config.text_columns]
    for setting, column in [*texts, ("label_column", config.label_column)]:
        count = list(columns).count(column)
        if count != 1:
            have = listed(map(shown, columns)) if count == 0 else f"{column} {count} times"
            raise UserError(f"--data.{setting} {column}: {place} has the columns {have}")


def side_by_side(columns: Sequence[Sequence[object]]) -> Sequence[object]:
    """The values of one text column, or of two, as `Rows` has them."""
    return columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))


def checked_texts(rows: Rows) -> list[Text]:
    """The texts, unchanged; a `UserError` where one is missing or is no text. An empty text is one."""
    if not rows.texts:
        raise UserError(f"{rows.place} has no rows: at least one text and its label are needed")
    texts: list[Text] = []
    for index, value in enumerate(rows.texts):
        if isinstance(value, tuple):
            first, second = value
            texts.append((_checked(rows, index, first, "first text"), _checked(rows, index, second, "second text")))
        else:
            texts.append(_checked(rows, index, value, "text"))
    size = sum(len(text) if isinstance(text, str) else sum(map(len, text)) for text in texts)
    if size > machine_memory() // 2:  # a few strings may stand in a great many rows
        raise UserError(f"{rows.place}: {size / 1e9:,.0f} GB of texts are more than half of this machine's memory")
    return texts


def _checked(rows: Rows, index: int, text: object, name: str) -> str:
    if text is None:
        raise UserError(f"{rows.at(index)}: the {name} is missing (an empty one would be allowed)")
    if not isinstance(text, str):
        raise UserError(f"{rows.at(index)}: {shown(text)} is no text; --data.text_column names the texts")
    if not text.isascii() and not _encodable(text):
        raise UserError(f"{rows.at(index)}: the {name} is no valid Unicode (half of a surrogate pair)")
    return text


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
