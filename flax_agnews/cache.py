"""`flax-agnews cache`: lists the caches that experiments share, or empties them."""

import argparse
import os
import sys
import time
from collections.abc import Sequence

from flax_agnews.errors import UserError
from flax_agnews.system.caches import KINDS, LIMIT, Entry, entries, folder_of, limit, remove, sweep
from flax_agnews.system.environment import cache_folder, check_directory
from flax_agnews.system.text import NOT_KNOWN, bytes_text, counted

MODULE = "python -m flax_agnews.cache"
DESCRIPTION = (
    "Lists the caches that make later runs quick: size, last use, and the limit of all together. They can be emptied "
    "at any time, also while experiments run: what is missing is computed again."
)
EPILOG = (
    f"The environment variable FLAX_AGNEWS_CACHE names the folder, and {LIMIT} the size limit of all caches together, "
    "in 1e9 bytes; where it is reached, what was used least recently is removed."
)


def make_parser(prog: str = MODULE) -> argparse.ArgumentParser:
    """Makes the parser of the command's arguments."""
    parser = argparse.ArgumentParser(prog=prog, description=DESCRIPTION, epilog=EPILOG)
    kinds = "; ".join(f"{kind}: {content}" for kind, content in KINDS.items())
    parser.add_argument(
        "--empty", nargs="*", choices=KINDS, metavar="KIND", help=f"remove these kinds, or without KIND all ({kinds})"
    )
    return parser


def main(arguments: Sequence[str] | None = None, prog: str = MODULE) -> int:
    """Lists or empties the caches; returns 0, or 2 after a one-line error.

    Args:
        arguments: the command-line arguments; by default those of the process.
        prog: the command's name in its help.
    """
    kinds = make_parser(prog).parse_args(arguments).empty
    try:
        check_directory()
        lines = _listed() if kinds is None else _emptied(kinds or list(KINDS))
    except UserError as error:
        print(f"error: {error.with_flags}", file=sys.stderr)
        return 2
    print(*lines, sep="\n")
    return 0


def _listed() -> list[str]:
    """A table of all kinds, and the limit."""
    found = {kind: entries(folder_of(kind)) for kind in KINDS}
    rows = [("kind", "files", "size", "last use", "folder")]
    rows += [(kind, *_facts(there), str(folder_of(kind))) for kind, there in found.items()]
    rows += [("together", *_facts([entry for there in found.values() for entry in there]), str(cache_folder()))]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        f"{kind:<{widths[0]}}  {files:>{widths[1]}}  {size:>{widths[2]}}  {used:<{widths[3]}}  {folder}"
        for kind, files, size, used, folder in rows
    ]
    lines += ["", f"at most {bytes_text(limit())} together ({LIMIT})"]
    if elsewhere := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        lines += [f"JAX_COMPILATION_CACHE_DIR: compiled programs are in {elsewhere}, and not counted here"]
    return lines


def _facts(there: Sequence[Entry]) -> tuple[str, str, str]:
    """Number of files, size, and time of the last use."""
    used = max((entry.used for entry in there), default=None)
    when = NOT_KNOWN if used is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(used))
    return f"{sum(entry.files for entry in there):,}", bytes_text(sum(entry.size for entry in there)), when


def _emptied(kinds: Sequence[str]) -> list[str]:
    """Empties these kinds; returns a line for each, and one for all."""
    lines, freed = [], 0
    for kind in dict.fromkeys(kinds):
        sweep(folder_of(kind))
        there = entries(folder_of(kind))
        gone = [entry for entry in there if remove(entry)]
        size, left = sum(entry.size for entry in gone), len(there) - len(gone)
        files = counted(sum(entry.files for entry in gone), "file")
        stays = f"; {counted(left, 'entry')} in use or not removable" if left else ""
        lines += [f"{kind}: removed {files}, {bytes_text(size)}{stays}"]
        freed += size
    return [*lines, f"freed {bytes_text(freed)}"]


if __name__ == "__main__":
    sys.exit(main())
