"""`flax-agnews evaluate RUN --data FILE`: scores of a trained classifier on labelled texts.

What needs JAX is imported after the options are read.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console

from flax_agnews.cli import common
from flax_agnews.system.files import write_json

MODULE = "python -m flax_agnews.evaluate"
DESCRIPTION = "Measures how well a trained classifier does on labelled texts."
DATA = "texts and labels: a CSV, TSV, JSON, JSONL or Parquet file, a glob pattern, or a folder (its test split is used)"


def make_parser(prog: str = MODULE) -> common.Parser:
    """Makes the parser of the command's arguments."""
    parser = common.Parser(prog=prog, description=DESCRIPTION)
    parser.add_argument("run", metavar="RUN", help=common.RUN)
    parser.add_argument("--data", type=Path, required=True, help=DATA)
    parser.add_argument("--text_column", nargs="+", help=common.TEXTS)
    parser.add_argument("--delimiter", help=common.DELIMITER)
    parser.add_argument("--label_column", help="column of the labels (default: the run's own)")
    parser.add_argument(
        "--labels",
        choices=("auto", "names", "positions"),
        default="auto",
        help="labels are names of classes, or positions from 0; auto: names if all labels are, positions if none is",
    )
    parser.add_argument("--mistakes", type=int, default=10, help="most confident mistakes to show (default: 10)")
    parser.add_argument("--json", type=Path, help="file to write all results to, as JSON")
    common.add_model(parser)
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Evaluates a trained classifier; returns the exit code: 0, 2 for bad input, 130 when interrupted.

    Args:
        arguments: the command-line arguments; by default those of the process.
        prog: the command's name in its help.
    """
    return common.exit_code(lambda: _evaluate(sys.argv[1:] if arguments is None else arguments, prog))


def _evaluate(arguments: Sequence[str], prog: str) -> None:
    options = make_parser(prog).parse_args(arguments)
    from flax_agnews.trained.classifier import Classifier
    from flax_agnews.trained.evaluation import check_evaluating, evaluate, shown_evaluation
    from flax_agnews.trained.finished_run import outline

    display, run = common.make_display(), outline(options.run)
    texts = common.text_columns(run, options.text_column)
    label = options.label_column or run.data.label_column
    delimiter = common.delimiter(run, options.delimiter)
    check_evaluating(options.data, texts, label, delimiter, run.data.test_split, options.json)
    with display.busy(f"loading {options.run}"):
        classifier = Classifier.load(options.run, model=options.model)
    found = evaluate(classifier, options.data, texts, label, display, options.mistakes, options.labels, delimiter)
    Console(highlight=False).print(shown_evaluation(found))
    if options.json:
        write_json(options.json, {"run": classifier.name, "data": str(options.data), **asdict(found)})


if __name__ == "__main__":
    sys.exit(main())
