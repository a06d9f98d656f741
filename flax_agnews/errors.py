"""The one error that people cause and people read."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input, said in one line: what, where, what is allowed, what to do. Commands exit with code 2."""


class Lost(Exception):
    """Another process of the same training ended or can't be reached, said in one line. Commands exit with code 1."""


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
