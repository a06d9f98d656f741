"""`flax-agnews COMMAND` or `python -m flax_agnews COMMAND`: runs a command."""

import sys
from collections.abc import Sequence
from importlib import import_module

from flax_agnews import __version__
from flax_agnews.errors import nearest, printable

PROG = "flax-agnews"

# command -> (module with its `main(arguments, prog)`, imported only when it is run; summary)
COMMANDS = {
    "train": ("main", "fine-tune by several strategies, several seeds each, and compare"),
    "describe": ("cli.describe", "print which parameters strategies train, and their rates"),
    "report": ("report.__main__", "write the report of an output folder again, or of several as one"),
    "predict": ("predict", "classify texts by a trained classifier"),
    "evaluate": ("evaluate", "measure a trained classifier on labelled texts"),
    "export": ("export", "write a trained classifier for transformers, PEFT or flax"),
    "cache": ("cache", "list or empty the caches that make later runs quick"),
}

_LISTED = "\n".join(f"  {name:<10} {summary}" for name, (_, summary) in COMMANDS.items())

HELP = f"""\
usage: {PROG} COMMAND ...

Fine-tunes GPT-2 for text classification in JAX by several strategies, and
compares them fairly.

commands:
{_LISTED}

{PROG} COMMAND --help describes a command; {PROG} --version.

a first example, which takes minutes and needs no network:
  {PROG} train --config quickstart
  {PROG} predict runs/quickstart --text "The striker scored twice."
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command; returns its exit code, or 2 if there is no such command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (given[0], given[1:]) if given else ("--help", [])
    if name in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if name == "--version":
        print(PROG, __version__)
        return 0
    if name not in COMMANDS:
        print(f"error: {_refusal(printable(name))}", file=sys.stderr)
        return 2
    module = import_module(f"flax_agnews.{COMMANDS[name][0]}")
    code: int = module.main(rest, f"{PROG} {name}")
    return code


def _refusal(name: str) -> str:
    """The error for a first argument that is no command."""
    if name.startswith("-"):
        return f"{name}: a command comes first, such as {PROG} train {name}"
    return f"{name}: no such command.{nearest(name, COMMANDS)}"


if __name__ == "__main__":
    sys.exit(main())
