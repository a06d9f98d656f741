"""`python -m flax_agnews.report FOLDER ...`: writes an output folder's report again, or one of several folders."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from flax_agnews.errors import UserError
from flax_agnews.system.environment import check_directory

MODULE = "python -m flax_agnews.report"
DESCRIPTION = (
    "Writes the report of an output folder again, and prints its table. Several folders, of other machines, seeds or "
    "strategies but the same data, are merged into one report."
)


def make_parser(prog: str = MODULE) -> argparse.ArgumentParser:
    """Makes the parser of the command's arguments."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION)
    what = "output folder of an experiment, with its results.json, or of an earlier merge"
    parser.add_argument("folders", type=Path, nargs="+", metavar="DIR", help=what)
    where = "new folder for the merged results and their report, needed with several folders"
    parser.add_argument("--output", type=Path, metavar="DIR", help=where)
    latex = "also write the table as LaTeX for papers; -: to standard output, and all else to standard error"
    parser.add_argument("--latex", metavar="FILE", help=latex)
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Writes the report, prints its table and the files written; returns 0, or 2 after a one-line error.

    Args:
        arguments: the command line, by default that of the process.
        prog: the command's name in its help.
    """
    options = make_parser(prog).parse_args(arguments)
    try:
        check_directory()
        _report(options.folders, options.output, options.latex)
    except UserError as error:
        print(f"error: {error.with_flags}", file=sys.stderr)
        return 2
    return 0


def _report(folders: Sequence[Path], output: Path | None, latex: str | None) -> None:
    """Merges the folders if there are several, writes the report, and prints what the command prints."""
    from rich.console import Console  # not needed to answer --help, nor is what follows

    from flax_agnews.report import final_table, read_answer, read_results, write_answer
    from flax_agnews.report.latex import latex_table
    from flax_agnews.report.merge import write_merged
    from flax_agnews.report.unfinished import unfinished
    from flax_agnews.system.files import check_writable, expanded, write_atomic

    if len(folders) > 1 and output is None:
        raise UserError("several folders are merged into a new one: name it with --output DIR")
    if latex and latex != "-":
        check_writable(Path(latex), "--latex")
    folder = expanded(str(write_merged(folders, output) if output else folders[0]))
    results = read_results(folder)
    answer, console = read_answer(folder, results), Console(stderr=latex == "-")
    paths = write_answer(answer, folder)
    console.print(final_table(answer))
    stopped = [f"Stopped where numbers were not finite: {run}." for run in results.diverged]
    for line in [*unfinished(folder, results), *stopped]:
        print(line, file=console.file)
    if latex:
        table = latex_table(answer)
        if latex == "-":
            print(table, end="")
        else:
            paths.append(write_atomic(Path(latex), table.encode()))
    print(" · ".join([str(paths[0]), *(path.name for path in paths[1:])]), file=console.file)


if __name__ == "__main__":
    sys.exit(main())
