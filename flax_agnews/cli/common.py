"""What the small commands share: their parser, and their exit codes."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from rich.console import Console

from flax_agnews.errors import UserError
from flax_agnews.settings.ranges import check_delimiter
from flax_agnews.system.display import Display
from flax_agnews.system.environment import check_directory, not_kept
from flax_agnews.trained.finished_run import Outline

RUN = "a finished run, OUTPUT/STRATEGY/seed-K; or OUTPUT: its best run by validation accuracy"
"""What commands take that use a trained classifier."""

TEXTS = "of the texts, two for pairs (default: the run's own)"
DELIMITER = "between the columns of a CSV file: one character, or tab (default: the run's own, or found in the header)"


def add_model(parser: argparse.ArgumentParser) -> None:
    """The option for a body that isn't where it was."""
    where = "the body that RUN was trained from, where it has moved: a directory or hub id; compared by hash"
    parser.add_argument("--model.name", dest="model", metavar="DIR", help=where)


class Parser(argparse.ArgumentParser):
    """Whose mistakes are a `UserError`."""

    def error(self, message: str) -> NoReturn:
        """Says in one line what is wrong, and where help is."""
        raise UserError(f"{message}; {self.prog} --help")


def make_display() -> Display:
    """On standard error; says where nothing can be cached."""
    display = Display(Console(stderr=True, highlight=False))
    if told := not_kept():
        display.note(told)
    return display


def text_columns(run: Outline, given: Sequence[str] | None) -> Sequence[str]:
    """The columns that are given, or those that a run was trained on; a `UserError` unless as many as those."""
    own = run.data.text_columns
    if given and len(given) != len(own):
        needed = "two: it answers pairs of texts" if run.data.paired else "one"
        raise UserError(f"--text_column {' '.join(given)}: {run.name} needs {needed}")
    return given or own


def delimiter(run: Outline, given: str | None) -> str | None:
    """That is given, or that a run's texts were read with; None is found in a file's header."""
    check_delimiter("--delimiter", given)
    return given or run.data.delimiter


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command: 0, 2 after one line for bad input, 130 when interrupted, 141 when nobody reads on."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # texts of any language can be printed, whatever the locale
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_directory()
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python's own last flush fails as well
        return 128 + signal.SIGPIPE
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
