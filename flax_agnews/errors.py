"""The errors that people read."""

import difflib
from collections.abc import Iterable, Sequence


class UserError(Exception):
    """Bad input, said in one line: what, where, what is allowed, what to do. Commands exit with code 2."""


class Diverged(Exception):
    """Training stopped where numbers were not finite, said in one line. Commands exit with code 1.

    Args:
        faults: which run, where, and what was not finite, for each that stopped.
        advice: what to do.
    """

    def __init__(self, faults: Sequence[str], advice: str) -> None:
        super().__init__(f"stopped where numbers were not finite: {listed(faults)}. {advice}")
        self.faults, self.advice = list(faults), advice


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint for a mistyped `name`: ` Did you mean x?`, or else ` Known: a, b.`"""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return f" Known: {', '.join(names)}." if names else ""


def listed(items: Iterable[str], most: int = 8) -> str:
    """`a, b, c and 4 more`: all of the items up to `most`, then how many are left out."""
    names = list(items)
    head = ", ".join(names[:most])
    return f"{head} and {len(names) - most} more" if len(names) > most else head


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
