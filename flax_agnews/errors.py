"""The errors that people read, and how texts from elsewhere are shown in them."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Bad input, said in one line: what, where, what is allowed, what to do. Commands exit with code 2.

    Names and texts in it may come from elsewhere: whatever could break the line or command a terminal becomes a space.

    Args:
        message: the line.
        advice: its end, what to do, where that depends on the command: another command has other flags.

    Attributes:
        fault: the line without the advice.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(printable(f"{message}. {advice}" if advice else message))
        self.fault = printable(message)


def printable(text: str) -> str:
    """`text` on one line, with a space for each line break, control character, and half of a surrogate pair."""
    return text if text.isprintable() else "".join(letter if letter.isprintable() else " " for letter in text)


def shown(value: object, most: int = 40) -> str:
    """`value` for a message: one line of at most `most` characters."""
    line = printable(str(value))
    return line if len(line) <= most else line[: most - 1] + "…"


class Lost(Exception):
    """Another process of the same training ended or can't be reached, said in one line. Commands exit with code 1."""


class Diverged(Exception):
    """Training stopped where numbers were not finite, said in one line. Commands exit with code 1.

    Args:
        faults: which run, where, and what was not finite, for each that stopped.
        advice: what to do.
    """

    def __init__(self, faults: Sequence[str], advice: str) -> None:
        super().__init__(f"stopped where numbers were not finite: {listed(faults)}. {advice}")
        self.faults, self.advice = list(faults), advice


def close_names(name: str, known: Iterable[str]) -> list[str]:
    """The names that a mistyped one may have meant, the nearest first; at most three."""
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)


def nearest(name: str, known: Iterable[str], most: int | None = None) -> str:
    """A hint for a mistyped `name`: ` Did you mean x?`, or else ` Known: a, b.`, at most `most` of them."""
    names = sorted(known)
    if close := close_names(name, names):
        return f" Did you mean {' or '.join(close)}?"
    return f" Known: {listed(names, most or len(names))}." if names else ""


def listed(items: Iterable[str], most: int = 8) -> str:
    """`a, b, c and 4 more`: all of the items up to `most`, then how many are left out."""
    names = list(items)
    head = ", ".join(names[:most])
    return f"{head} and {len(names) - most} more" if len(names) > most else head


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
