"""`python -m flax_agnews.report FOLDER`: writes an output folder's report again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flax_agnews.errors import UserError
from flax_agnews.system.environment import check_directory

MODULE = "python -m flax_agnews.report"
DESCRIPTION = "Writes the report of an output folder again, and prints its table."


def main(arguments: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Writes the report, prints its table and the files written; returns 0, or 2 after a one-line error.

    Args:
        arguments: the command line, by default that of the process.
        prog: the command's name in its help.
    """
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    parser.add_argument("folder", type=Path, help="output folder of an experiment, with its results.json")
    folder = parser.parse_args(arguments).folder
    from rich.console import Console  # not needed to answer --help, nor is what follows

    from flax_agnews.report import final_table, read_answer, read_results, write_report

    try:
        check_directory()
        paths = write_report(folder)
        Console().print(final_table(read_answer(folder, read_results(folder))))
    except UserError as error:
        print(f"error: {error.with_flags}", file=sys.stderr)
        return 2
    print(" · ".join([str(paths[0]), *(path.name for path in paths[1:])]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
