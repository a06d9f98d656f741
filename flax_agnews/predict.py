"""`flax-agnews predict RUN`: classes and probabilities that a trained classifier gives to texts.

What needs JAX is imported after the options are read.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from flax_agnews.cli import common
from flax_agnews.data.streams import Utf8
from flax_agnews.errors import UserError

MODULE = "python -m flax_agnews.predict"
DESCRIPTION = "Classifies texts with a trained classifier: prints class and probabilities, or adds them to a file."


def make_parser(prog: str = MODULE) -> common.Parser:
    """Makes the parser of the command's arguments."""
    parser = common.Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help=common.RUN)
    parser.add_argument("--text", action="append", help="a text; may be given several times")
    parser.add_argument("--file", type=Path, help="file of texts, of any size: CSV, TSV, JSON, JSONL or Parquet")
    parser.add_argument(
        "--out", type=Path, help="file for a copy of --file with the label and the probability of each class"
    )
    parser.add_argument("--text_column", nargs="+", help=common.TEXTS)
    parser.add_argument("--delimiter", help=common.DELIMITER)
    parser.add_argument("--prefix", default="", help="put before the names of the new columns of --out")
    common.add_model(parser)
    parser.epilog = "Without --text and --file, each line of standard input is a text; of a pair, with a tab between."
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Classifies texts; returns the exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: the command-line arguments; by default those of the process.
        prog: the command's name in its help.
    """
    return common.exit_code(lambda: _predict(sys.argv[1:] if arguments is None else arguments, prog))


def _predict(arguments: Sequence[str], prog: str) -> None:
    options = make_parser(prog).parse_args(arguments)
    if (options.file is None) != (options.out is None):
        raise UserError("--file and --out go together: what is read, and what is written")
    if options.file and options.text:
        raise UserError("--text and --file: choose one")
    for text in options.text or ():
        _check_bytes(text)
    from flax_agnews.trained.classifier import Classifier
    from flax_agnews.trained.finished_run import outline
    from flax_agnews.trained.streaming import ROWS, answer_file, answer_lines, check_answering

    display = common.make_display()
    if options.file:
        run = outline(options.run)
        columns, delimiter = common.text_columns(run, options.text_column), common.delimiter(run, options.delimiter)
        check_answering(options.file, options.out, columns, options.prefix, run.classes, delimiter)
    with display.busy(f"loading {options.run}"):
        classifier = Classifier.load(options.run, model=options.model)
    if options.file:
        answer_file(
            classifier, options.file, options.out, columns, prefix=options.prefix, display=display, delimiter=delimiter
        )
    elif options.text:
        answer_lines(classifier, options.text, print, ROWS)
    else:
        answer_lines(classifier, _lines(sys.stdin.buffer), print, 1 if sys.stdin.isatty() else ROWS)


def _check_bytes(text: str) -> None:
    """Raises a `UserError` for a text with undecodable bytes, which Python has as lone surrogates."""
    if odd := next((letter for letter in text if "\udc80" <= letter <= "\udcff"), None):
        raise UserError(
            f"--text {text}: byte 0x{ord(odd) & 0xFF:02x} is not the terminal's encoding; --file reads UTF-8"
        )


def _lines(file: BinaryIO) -> Iterator[str]:
    """The lines of a file without line ends, decoded as UTF-8 whatever the locale."""
    for line in Utf8("standard input", file):
        yield line.rstrip("\r\n")


if __name__ == "__main__":
    sys.exit(main())
