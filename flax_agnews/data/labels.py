"""Maps the values of a label column to classes: values are class names, or positions among the classes.

Labels are first matched exactly with declared names (of a ClassLabel column, `classes.txt` or a trained run). They are
read as positions only if every label is an integer within the range of the classes and no name. Mixtures are an error
that explains both readings.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal

import numpy as np

from flax_agnews.data.rows import MOST_CLASSES, Rows
from flax_agnews.errors import UserError, flag, listed, nearest, shown

NEARLY = 0.9
"""Least share of the numbers 0 to n - 1 that must occur among training labels without declared names, for them to be
read as positions."""

_INTEGER = re.compile(r"\s*[+-]?[0-9]{1,18}(\.0+)?\s*")
_PLAIN = re.compile(r"\s*(0|[1-9][0-9]*)(\.0+)?\s*")  # an integer as programs write it: no sign, no zeros in front
_NUMBER = re.compile(r"\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?\s*")

_MARK = "-1 often marks rows without a label"
_AS_BEFORE = "labels are read as before data.labels"

How = Literal["auto", "names", "positions", "legacy"]


@dataclass(frozen=True)
class Classes:
    """The classes of a data set, and the reading of its labels.

    Attributes:
        names: class names, in the order of class numbers.
        how: whether labels are `names` or positions among them; `legacy` reads integers as positions and everything
            else as names.
        why: how labels were read, in words, for display and report.
        setting: name of the setting that chooses the reading, for errors.
    """

    names: Sequence[str]
    how: Literal["names", "positions", "legacy"]
    why: str = ""
    setting: str = flag("data.labels")

    @cached_property
    def _index(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def number(self, label: str) -> int | None:
        """The class number of a label; None if it is no class."""
        position = None if self.how == "names" else integer(label)
        if position is None:
            return None if self.how == "positions" else self._index.get(label)
        return position if 0 <= position < len(self.names) else None

    def numbers(self, rows: Rows) -> np.ndarray:
        """Class numbers of all rows: [rows] int32. UserError if labels are no class, with these labels."""
        labels = read_labels(rows, as_names=self.how != "positions")
        found = {label: self.number(label) for label in dict.fromkeys(labels)}
        if unknown := [label for label, number in found.items() if number is None]:
            first, *others = unknown
            more = f", nor are {listed(map(shown, others))}" if others else ""
            place = rows.at(labels.index(first))
            raise UserError(f"{place}: label {shown(first)} is no class{more}.{self._allowed(first)}")
        return np.array([found[label] for label in labels], np.int32)

    def _allowed(self, label: str) -> str:
        numbered = integer(label) is not None
        unlabelled = f"; {_MARK}" if integer(label) == -1 else ""
        if self.how == "positions":
            return f" Classes: 0 to {len(self.names) - 1}{unlabelled}"
        if not numbered:
            return nearest(shown(label), map(shown, self.names), most=20)
        known = f" Known: {listed(map(shown, self.names), 20)}{unlabelled}."
        return f"{known} {self.setting} positions reads labels as class numbers from 0" if self._numeric else known

    @property
    def _numeric(self) -> bool:
        return all(integer(name) is not None for name in self.names)


def find_classes(
    train: Rows, others: Iterable[Rows] = (), declared: Sequence[str] | None = None, how: How = "auto"
) -> Classes:
    """Determines the classes of a data set and the reading of its labels.

    Args:
        train: the training rows; if no names are declared, their distinct labels are the classes.
        others: the rows of the other splits, whose labels are read in the same way.
        declared: class names in order, if the source declares them.
        how: the setting `data.labels`.

    Raises:
        UserError: a label is missing, has two readings or none, or there are fewer than two classes or too many.
    """
    declared = declared or train.names
    if declared and len(declared) > MOST_CLASSES:
        raise UserError(f"{train.place}: has {len(declared):,} classes; at most {MOST_CLASSES:,} are allowed")
    distinct = _first_places(train, as_names=how != "positions")
    if len(distinct) < 2:
        raise UserError(f"{train.place}: every label is {shown(next(iter(distinct)))}; at least 2 classes are needed")
    if len(distinct) > MOST_CLASSES:
        many = f"has {len(distinct):,} different labels, at most {MOST_CLASSES:,} are allowed"
        raise UserError(f"{train.place}: {many}; {flag('data.label_column')} names the labels")
    if how == "legacy":
        return _legacy(distinct, declared)
    if declared:
        return choose_reading([train, *others], declared, how)
    return _undeclared(distinct, how)


def choose_reading(
    splits: Iterable[Rows], names: Sequence[str], how: How = "auto", setting: str = flag("data.labels")
) -> Classes:
    """Decides whether labels are read as the declared `names` or as positions among them.

    Args:
        splits: all rows; may be an iterator that reads chunks.
        names: class names in order.
        how: value of the setting; `auto` decides by the labels.
        setting: name of the setting, for errors.

    Raises:
        UserError: labels have two readings, or a label has none.
    """
    if how == "legacy":
        return Classes(names, "legacy", _AS_BEFORE, setting)
    by_name = Classes(names, "names", "labels are names of the declared classes", setting)
    by_position = Classes(names, "positions", f"labels are positions among the {len(names)} declared names", setting)
    if how != "auto":
        return by_name if how == "names" else by_position
    named, others = "", dict[str, str]()  # first label that is a name; other label -> place of its first row
    for rows in splits:
        for index, label in enumerate(read_labels(rows)):
            if by_name.number(label) is not None:
                named = named or label
            elif by_position.number(label) is None:
                raise UserError(_no_reading(rows.at(index), label, names))
            else:
                others.setdefault(label, rows.at(index))
    if named and others:
        raise UserError(_two_readings(*next(iter(others.items())), named, by_position))
    return by_position if others else by_name


def integer(label: str) -> int | None:
    """A label as a whole number (`3`, ` 3`, `3.0`, `03`, `-1`); None if it isn't one."""
    return int(label.split(".")[0]) if _INTEGER.fullmatch(label) else None


def read_labels(rows: Rows, as_names: bool = True) -> list[str]:
    """Labels as strings: names as written, integers of any type as `3`.

    Args:
        rows: the rows with the labels.
        as_names: replace labels of a column whose type declares names (`Rows.names`) by these names.
    """
    names = rows.names if as_names else None
    return [_read_label(rows, index, label, names) for index, label in enumerate(rows.labels)]


def _read_label(rows: Rows, index: int, label: object, names: Sequence[str] | None) -> str:
    blank = not label.strip() if isinstance(label, str) else label is None
    if blank or (isinstance(label, float) and math.isnan(label)):
        raise UserError(f"{rows.at(index)}: the label is missing: must be a class number or name")
    if isinstance(label, float) and label.is_integer():
        label = int(label)
    if names and isinstance(label, int) and not isinstance(label, bool):
        if not 0 <= label < len(names):
            unlabelled = f"; {_MARK}" if label == -1 else ""
            raise UserError(f"{rows.at(index)}: label {shown(label)}: must be 0 to {len(names) - 1}{unlabelled}")
        return names[label]
    if isinstance(label, str | int | float) and label not in (math.inf, -math.inf):
        return str(label)
    raise UserError(f"{rows.at(index)}: label {shown(label)}: must be a class number or name")


def _first_places(rows: Rows, as_names: bool) -> dict[str, str]:
    """Distinct label -> place of its first row, in order."""
    found: dict[str, str] = {}
    for index, label in enumerate(read_labels(rows, as_names)):
        if label not in found:
            found[label] = rows.at(index)
    return found


def _undeclared(distinct: Mapping[str, str], how: How) -> Classes:
    """The classes without declared names, determined from the distinct training labels (label -> place)."""
    numbers = {label: integer(label) for label in distinct}
    if how == "positions" or (how == "auto" and _dense(numbers)):
        size = _size(numbers, distinct)
        unused = size - len(set(numbers.values()))
        gaps = f", {unused} of them without training texts" if unused else ""
        return Classes([str(number) for number in range(size)], "positions", f"labels are class numbers{gaps}")
    as_numbers = all(_NUMBER.fullmatch(label) for label in distinct)
    between = [label for label in distinct if as_numbers and not _whole(label)]
    if how == "auto" and between:
        raise UserError(
            f"{distinct[between[0]]}: label {shown(between[0])}: is a regression meant? This program fits classes. "
            f"Where such numbers are names of classes: {flag('data.labels')} names"
        )
    names = sorted(distinct, key=lambda label: (Decimal(label), label) if as_numbers else label)
    why = "labels are class names"
    if as_numbers:
        why += " as written: numbers, but not 0 to n - 1" if how == "auto" else " as written"
    elif any(number is not None for number in numbers.values()):
        why += ", numbers among them"
    if twins := _twins(numbers):
        why += f"; {twins[0]} and {twins[1]} are two classes"
    if "-1" in numbers and _dense({label: number for label, number in numbers.items() if label != "-1"}):
        why += "; -1 is a class, too"
    return Classes(names, "names", why)


def _whole(label: str) -> bool:
    return Decimal(label) == Decimal(label).to_integral_value()


def _dense(numbers: Mapping[str, int | None]) -> bool:
    """Whether labels are the integers 0 to n - 1, plainly written, nearly all of which occur (`NEARLY`)."""
    values = [number for number in numbers.values() if number is not None]
    if len(values) < len(numbers) or len(set(values)) < len(values):
        return False
    plain = all(_PLAIN.fullmatch(label) for label in numbers)
    return bool(values) and plain and min(values) == 0 and len(values) >= NEARLY * (max(values) + 1)


def _twins(numbers: Mapping[str, int | None]) -> tuple[str, str] | None:
    """Two labels that are the same whole number, such as `7` and `007`; None if there are none."""
    seen: dict[int, str] = {}
    for label, number in numbers.items():
        if number is not None and seen.setdefault(number, label) != label:
            return shown(seen[number]), shown(label)
    return None


def _size(numbers: Mapping[str, int | None], places: Mapping[str, str]) -> int:
    """Number of classes if labels are positions. UserError with the place of a label that can't be one."""
    for label, number in numbers.items():
        if number is None or not 0 <= number < MOST_CLASSES:
            allowed = f"must be 0 to {MOST_CLASSES - 1}, since {flag('data.labels')} positions asks for class numbers"
            raise UserError(f"{places[label]}: label {shown(label)}: {allowed}")
    return 1 + max(number for number in numbers.values() if number is not None)


def _no_reading(place: str, label: str, names: Sequence[str]) -> str:
    """The error for a label that is neither a name nor a position."""
    numbered = integer(label) is not None
    hint = "" if numbered else nearest(shown(label), map(shown, names), most=20)
    hint = hint or f" Known: {listed(map(shown, names), 20)}."
    unlabelled = f" {_MARK}." if integer(label) == -1 else ""
    allowed = f"neither a name nor a position (0 to {len(names) - 1})"
    return f"{place}: label {shown(label)} is no class: {allowed}.{hint}{unlabelled}"


def _two_readings(label: str, place: str, named: str, by_position: Classes) -> str:
    """The error for labels that can be read both as names and as positions."""
    names, number = by_position.names, by_position.number(label)
    assert number is not None
    return (
        f"{place}: label {shown(label)} is no class name; as a position from 0 it would be {shown(names[number])}, "
        f"but label {shown(named)} is a name. Names: {listed(map(shown, names))}. "
        f"Say how labels are read: {by_position.setting} names, or {by_position.setting} positions"
    )


def _legacy(distinct: Mapping[str, str], declared: Sequence[str] | None) -> Classes:
    """The classes as read before the setting `data.labels` existed: integers are positions, everything else names."""
    numbers = {label: integer(label) for label in distinct}
    if None not in numbers.values():
        size = _size(numbers, distinct)
        names = declared or [str(number) for number in range(size)]
    elif set(numbers.values()) == {None}:
        names = declared or sorted(distinct)
    else:
        odd = next(label for label, number in numbers.items() if number is None)
        raise UserError(f"{distinct[odd]}: label {shown(odd)} is no number, but others are: all must be of one kind")
    return Classes(list(names), "legacy", _AS_BEFORE)
