"""`python -m flax_agnews.report FOLDER`: writes an output folder's report again."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from flax_agnews.errors import UserError
from flax_agnews.report import final_table, read_results, write_report
from flax_agnews.system.environment import check_directory


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the final table and the files written; returns 0, or 2 after a one-line error."""
    parser = argparse.ArgumentParser(prog="python -m flax_agnews.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="output folder of an experiment, with its results.json")
    folder = parser.parse_args(arguments).folder
    try:
        check_directory()
        paths = write_report(folder)
        Console().print(final_table(read_results(folder)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(" · ".join([str(paths[0]), *(path.name for path in paths[1:])]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
