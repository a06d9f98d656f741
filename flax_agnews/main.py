"""`flax-agnews train`: fine-tunes by several strategies, several seeds each, and reports the comparison.

What needs JAX is imported after the flags are read, so that help and mistakes in them are answered at once.
"""

import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext

from flax_agnews.cli import arguments as cli
from flax_agnews.errors import Diverged, Lost, UserError
from flax_agnews.system.environment import check_directory


def main(arguments: Sequence[str] | None = None, prog: str = cli.MAIN) -> int:
    """Trains and compares; returns the exit code.

    The code is 0; 2 for bad input; 130 (SIGINT) or 143 (SIGTERM) when interrupted, after saving; 1 if a run had NaN or
    infinite numbers, or another process was lost.

    Args:
        arguments: the command-line arguments; by default those of the process.
        prog: the command's name in its help.
    """
    try:
        check_directory()
        request = cli.parse(sys.argv[1:] if arguments is None else arguments, prog)
        if request.list_strategies:
            from flax_agnews.experiment.description import strategies_table
            from flax_agnews.system.display import Display

            Display().console.print(strategies_table(request.config))
            return 0
        with nullcontext() if request.config.parallel.coordinator else _starting():  # of several, the first shows
            from flax_agnews.cli.compare import compare, plan  # what trains takes seconds to import
        if request.dry_run:
            plan(request.config, request.entries, overwrite=request.overwrite)
            return 0
        compare(request.config, request.entries, overwrite=request.overwrite)
    except (Diverged, UserError) as error:
        print(f"error: {error.with_flags}", file=sys.stderr)
        return 1 if isinstance(error, Diverged) else 2
    except Lost as error:
        print(f"error: {error.with_flags}", file=sys.stderr)
        return _leave(1)
    except KeyboardInterrupt as interrupt:
        if interrupt.args:
            return 128 + interrupt.args[0]
        print("stopped; run the same command to go on", file=sys.stderr)
        return _leave(128 + signal.SIGINT)
    except Exception:
        if not _several():
            raise
        traceback.print_exc()
        return _leave(1)  # else the other processes would wait for this one
    return 0


def _several() -> bool:
    """Whether this process is one of several that train together."""
    from flax_agnews.training.processes import current_team

    return current_team().count > 1


def _leave(code: int) -> int:
    """Leaves the other processes, if there are any; returns the exit code.

    Where threads still train, ends this process at once: Python's exit would wait for them, or crash in their programs.
    """
    from flax_agnews.system.workers import at_work
    from flax_agnews.training.processes import current_team

    if at_work():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return current_team().leave(code)


@contextmanager
def _starting() -> Iterator[None]:
    """Shows that the program is starting."""
    from flax_agnews.system.display import Display

    display = Display()
    with display, display.busy("starting"):
        yield


if __name__ == "__main__":
    sys.exit(main())
