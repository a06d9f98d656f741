"""The errors that people read, and how texts from elsewhere are shown in them."""

import difflib
from collections.abc import Iterable, Sequence

_MARK = "\ufdd0"  # a code point that Unicode keeps out of texts


def flag(setting: str) -> str:
    """Names a setting in an error's message: `train.epochs`, which the commands show as `--train.epochs`."""
    return f"{_MARK}{setting}"


class OneLineError(Exception):
    """An error that people read: one line that says what is wrong, where, what is allowed and what to do.

    Names and texts in it may come from elsewhere: whatever could break the line or command a terminal becomes a space.

    Args:
        message: the line, with `flag(name)` wherever it names a setting.

    Attributes:
        message: the line with these marks, for an error that quotes this one; `str(error)` is without.
    """

    def __init__(self, message: str) -> None:
        self.message = _printable_message(message)
        super().__init__(self.message.replace(_MARK, ""))

    @property
    def with_flags(self) -> str:
        """The line as commands show it, with settings as flags."""
        return self.message.replace(_MARK, "--")


class UserError(OneLineError):
    """Bad input. Commands exit with code 2.

    Args:
        message: the line, see `OneLineError`.
        advice: its end, what to do, where that depends on the command: another command has other flags.

    Attributes:
        fault: the line without the advice, as `str(error)` has it.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(f"{message}. {advice}" if advice else message)
        self.fault = _printable_message(message).replace(_MARK, "")


class Lost(OneLineError):
    """Another process of the same training ended or can't be reached. Commands exit with code 1."""


class Diverged(OneLineError):
    """Training stopped where numbers were not finite. Commands exit with code 1.

    Args:
        faults: which run, where, and what was not finite, for each that stopped.
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
    """The names that a mistyped one may have meant, the nearest first; at most three."""
    return difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.6)


def nearest(name: str, known: Iterable[str], most: int | None = None, prefix: str = "") -> str:
    """A hint for a mistyped name: ` Did you mean x?`, or where none is near ` Known: a, b.`

    Args:
        name: as it was given.
        known: the names that there are.
        most: how many of them are listed at most; by default all.
        prefix: before each name that is shown, such as `--`.
    """
    names = sorted(known)
    if close := close_names(name, names):
        return f" Did you mean {' or '.join(prefix + near for near in close)}?"
    return f" Known: {listed([prefix + other for other in names], most or len(names))}." if names else ""


def listed(items: Iterable[str], most: int = 8) -> str:
    """`a, b, c and 4 more`: all of the items up to `most`, then how many are left out."""
    names = list(items)
    head = ", ".join(names[:most])
    return f"{head} and {len(names) - most} more" if len(names) > most else head


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its kind where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
