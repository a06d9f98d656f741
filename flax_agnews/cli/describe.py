"""`flax-agnews describe`: prints which parameters the chosen strategies train, at which learning rates.

What needs JAX is imported after the flags are read.
"""

from collections.abc import Sequence

from flax_agnews.cli import arguments as cli
from flax_agnews.cli import common
from flax_agnews.cli.help import help_request

_HELP = """\
usage: {prog} [--strategy NAMES] [--SECTION.SETTING VALUE ...]

Prints for each strategy which parameters of the model train, how many numbers
these are, and their learning rates and weight decay. Nothing is trained.

examples:
  {prog} --strategy lora
  {prog} --strategy lora,partial --lora.rank 4 --partial.top_layers 2
  {prog} --strategy every --config quickstart

The flags are those of training: --help SECTION lists those of a section, such
as --help lora, and --help all lists all.
"""


def main(arguments: Sequence[str], prog: str) -> int:
    """Prints a table for each chosen strategy; returns the exit code: 0, or 2 for bad input.

    Args:
        arguments: the flags of training; those of model, strategies, and learning rates matter.
        prog: the command's name in its help.
    """
    return common.exit_code(lambda: _describe(arguments, prog))


def _describe(arguments: Sequence[str], prog: str) -> None:
    if help_request(arguments) == "":
        return print(_HELP.format(prog=prog), end="")
    request = cli.parse(arguments, prog)
    from flax_agnews.experiment.description import describe_entry
    from flax_agnews.system.display import Display

    console = Display().console
    for entry in request.entries:
        console.print(describe_entry(entry, request.config), "")
