"""Shared by the commands on trained classifiers: their parser, common options, display and exit codes."""

import argparse
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from flax_agnews.errors import UserError
from flax_agnews.settings.ranges import check_delimiter
from flax_agnews.system.display import Display
from flax_agnews.system.environment import check_directory, not_kept

if TYPE_CHECKING:  # the options of a command are read without JAX
    from flax_agnews.trained.finished_run import Outline

RUN = "a finished run, OUTPUT/STRATEGY/seed-K; or OUTPUT: its best run by validation accuracy"
"""Help for the argument RUN of the commands that use a trained classifier."""

TEXTS = "column of the texts, two for pairs (default: the run's own)"
DELIMITER = (
    "what separates the columns of a CSV file: a character, or tab (default: the run's own, or found in its header)"
)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Adds the option `--model.name`, for a body that has moved since training."""
    where = "where the model is that RUN was trained from, if it has moved: a directory or hub id; compared by hash"
    parser.add_argument("--model.name", dest="model", metavar="DIR", help=where)


class Parser(argparse.ArgumentParser):
    """An argument parser that raises a `UserError` instead of printing usage and exiting."""

    def error(self, message: str) -> NoReturn:
        """Raises a `UserError` with argparse's message and the command's `--help`."""
        raise UserError(f"{message}; {self.prog} --help")


def make_display() -> Display:
    """Makes a display on standard error; notes there if the cache folder can't be written."""
    display = Display(Console(stderr=True, highlight=False))
    if note := not_kept():
        display.note(note)
    return display


def text_columns(run: "Outline", given: Sequence[str] | None) -> Sequence[str]:
    """The text columns: those in `given`, else those that the run was trained on.

    Raises:
        UserError: `given` has another number of columns than the run was trained on.
    """
    own = run.data.text_columns
    if given and len(given) != len(own):
        needed = "two: it answers pairs of texts" if run.data.paired else "one"
        raise UserError(f"--text_column {' '.join(given)}: {run.name} needs {needed}")
    return given or own


def delimiter(run: "Outline", given: str | None) -> str | None:
    """The delimiter of a CSV file: `given`, else that of the run's training data; None detects it from the header."""
    check_delimiter("--delimiter", given)
    return given or run.data.delimiter


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command and returns its exit code.

    The code is 0; 2 for bad input, after a line on standard error; 130 when interrupted; 141 when the reader of its
    output has closed the pipe.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # or printing a text that the locale can't encode would fail
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        check_directory()
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush when Python exits fails as well
        return 128 + signal.SIGPIPE
    except UserError as error:
        print(f"error: {error.with_flags}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
