"""`python -m flax_agnews.main`: fine-tune by several strategies, several seeds each, and report the comparison."""

import signal
import sys
from collections.abc import Sequence

from flax_agnews import cli
from flax_agnews.compare import compare
from flax_agnews.errors import Diverged, UserError


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code: 0, 1 for numbers not finite, 2 for bad input, 130 or 143 when interrupted."""
    try:
        request = cli.parse(sys.argv[1:] if arguments is None else arguments)
        compare(request.config, request.entries, overwrite=request.overwrite)
    except (Diverged, UserError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1 if isinstance(error, Diverged) else 2
    except KeyboardInterrupt as interrupt:
        if not interrupt.args:
            print("stopped; run the same command to go on", file=sys.stderr)
        return 128 + (interrupt.args[0] if interrupt.args else signal.SIGINT)
    return 0


if __name__ == "__main__":
    sys.exit(main())
