"""Errors with one-line messages for users, and the formatting of names and values in messages."""

import difflib
from collections.abc import Iterable, Sequence

_MARK = "\ufdd0"  # a Unicode noncharacter, which no text contains


def flag(setting: str) -> str:
    """Marks a setting's name in an error message: `train.epochs`, which commands print as `--train.epochs`."""
    return f"{_MARK}{setting}"


class OneLineError(Exception):
    """An error for users: one line that says what is wrong, where, what is allowed and what to do.

    Line breaks and control characters become spaces, since parts of the message may come from files.

    Args:
        message: the line, with `flag(name)` for each setting that it names.

    Attributes:
        message: the line with the marks of `flag`, for an error that quotes this one; `str(error)` has no marks.
    """

    def __init__(self, message: str) -> None:
        self.message = _printable_message(message)
        super().__init__(self.message.replace(_MARK, ""))

    @property
    def with_flags(self) -> str:
        """The line as commands print it, with `--` before settings."""
        return self.message.replace(_MARK, "--")


class UserError(OneLineError):
    """Bad input. Commands exit with code 2.

    Args:
        message: the line, see `OneLineError`.
        advice: the last sentence, what to do, separately, since another command with other flags may replace it.

    Attributes:
        fault: the line without the advice and without the marks of `flag`.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(f"{message}. {advice}" if advice else message)
        self.fault = _printable_message(message).replace(_MARK, "")


class Lost(OneLineError):
    """Another process of the same training ended or can't be reached. Commands exit with code 1."""


class Diverged(OneLineError):
    """Runs stopped because of NaN or infinite numbers. Commands exit with code 1.

    Args:
        faults: for each stopped run, its name, the step, and what was not finite.
        advice: what to do.
    """

    def __init__(self, faults: Sequence[str], advice: str) -> None:
        super().__init__(f"stopped where numbers were not finite: {listed(faults)}. {advice}")
        self.faults, self.advice = list(faults), advice


def printable(text: str) -> str:
    """`text` on one line, with a space for each line break, control character, and half of a surrogate pair."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def _printable_message(message: str) -> str:
    return _MARK.join(map(printable, message.split(_MARK)))


def shown(value: object, most: int = 40) -> str:
    """`value` for a message: one line of at most `most` characters."""
    line = printable(str(value))
    return line if len(line) <= most else line[: most - 1] + "…"


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """The known names most similar to a mistyped one, the most similar first; at most three."""
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)


def nearest(name: str, known: Iterable[str], most: int | None = None, prefix: str = "") -> str:
    """A hint for a mistyped name: ` Did you mean x?`, or ` Known: a, b.` if no known name is similar.

    Args:
        name: the mistyped name.
        known: all valid names.
        most: largest number of names listed after `Known`; by default all.
        prefix: put before each name, such as `--`.
    """
    names = sorted(known)
    if close := close_names(name, names):
        return f" Did you mean {' or '.join(prefix + near for near in close)}?"
    return f" Known: {listed([prefix + other for other in names], most or len(names))}." if names else ""


def listed(items: Iterable[str], most: int = 8) -> str:
    """`a, b, c and 4 more`: the first `most` items, and the number of the others."""
    names = list(items)
    head = ", ".join(names[:most])
    return f"{head} and {len(names) - most} more" if len(names) > most else head


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or the name of its class if it has no message."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
