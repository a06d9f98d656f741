"""The help texts of training: a first page with the most used settings, and a page for each section."""

import textwrap
from collections.abc import Mapping, Sequence

from flax_agnews.cli.named_configs import NAMES
from flax_agnews.errors import UserError, nearest
from flax_agnews.settings.documentation import documented, introduction

WIDTH = 80  # columns

_INTRODUCTION = """\
usage: {prog} [--config NAME] [--SECTION.SETTING VALUE ...]

Fine-tunes GPT-2 to classify texts, by one or several strategies with several
seeds each, and compares them: the output folder gets report.html, report.md
and results.json. The same command again continues an interrupted run.

examples:
  {prog} --config quickstart
  {prog} --strategy lora,full --train.epochs 2 \\
      --data.source train.csv --data.test_source test.csv --output runs/mine
"""

# most used settings -> description, in at most 44 characters
_USUAL: Mapping[str, str] = {
    "model.name": "hub id, folder with a model, or builtin",
    "model.from_config": "random weights of these sizes instead",
    "model.dtype": "or bfloat16: type of the computation",
    "data.source": "hub data set, file, folder, or builtin",
    "data.test_source": "test file, where source is one file",
    "data.text_column": "column of the texts",
    "data.label_column": "column of the labels",
    "data.max_length": "most tokens of a text; longer ones are cut",
    "data.limit_train": "use only this many training texts",
    "train.epochs": "passes over the training texts",
    "train.batch_size": "texts per update",
    "train.runs": "runs of each strategy, with different seeds",
    "train.seed": "seed of the first run",
    "train.schedule": "or linear, cosine: learning rate over time",
    "train.warmup_fraction": "share of the updates in which it rises",
    "train.micro_batch_tokens": "tokens computed at once; lower: less memory",
    "search.trials": "learning rates to try first; 0: no search",
    "full.learning_rate": "each strategy has its own: --help lora",
    "parallel.devices": "devices used; null is all",
    "tracking.wandb": "log to Weights & Biases: online, disabled",
}


def help_request(arguments: Sequence[str]) -> str | None:
    """The section after `--help`: empty for the first page; None if there is no `--help`."""
    for place, argument in enumerate(arguments):
        if argument.startswith("--help="):
            return argument.removeprefix("--help=")
        if argument in ("-h", "--help"):
            following = arguments[place + 1 : place + 2]
            return "" if not following or following[0].startswith("-") else following[0]
    return None


def training_help(asked: str, prog: str, sections: Mapping[str, type], strategies: Sequence[str]) -> str:
    """The text for `--help`, `--help SECTION` or `--help all` of training.

    Args:
        asked: a section's name, `all`, or empty for the first page.
        prog: name of the command.
        sections: section -> dataclass of its settings, those of strategies last.
        strategies: names of the sections that belong to strategies.

    Raises:
        UserError: there is no such section.
    """
    if not asked:
        return _first_page(prog, sections, strategies)
    if asked == "all":
        return "\n".join(_section(name, kind) for name, kind in sections.items())
    if asked not in sections:
        raise UserError(f"--help {asked}: no such section.{nearest(asked, ['all', *sections])}")
    return _section(asked, sections[asked])


def _first_page(prog: str, sections: Mapping[str, type], strategies: Sequence[str]) -> str:
    shared = [name for name in sections if name not in strategies]
    defaults = {
        f"{name}.{setting.name}": setting.default for name in sections for setting in documented(sections[name])
    }
    lines = [
        _INTRODUCTION.format(prog=prog),
        "what to run, and where to save it:",
        _row("--config NAME", f"YAML file, or {', '.join(NAMES)}"),
        _row("--strategy all", "full,prompt,partial, or others: see below"),
        _row("--output runs/ag_news", "folder for runs, results and report"),
        _row("--overwrite", "start over in a folder that is in use"),
        _row("--shard 1/1", "I/N: every N-th run, from I on; or auto/N"),
        _row("--print_config", "print all settings as YAML, and stop"),
        _row("--dry_run", "print what would run and how long, and stop"),
        _row("--list_strategies", "print what each strategy trains, and stop"),
        "",
        "most used settings, with their defaults:",
        *(_row(f"--{name} {defaults[name]}", text) for name, text in _USUAL.items()),
        "",
        "--help SECTION lists the settings of a section, --help all those of all of them.",
        *_wrapped(f"  sections    {', '.join(shared)}", " " * 14),
        *_wrapped(f"  strategies  {', '.join(strategies)}", " " * 14),
        "  --strategy takes their names, separated by commas, or every.",
        "",
        "Afterwards: flax-agnews predict, evaluate, export, report; each has its --help.",
    ]
    return "\n".join(lines) + "\n"


def _section(name: str, kind: type) -> str:
    """The help page of a section: values, default and description of each setting."""
    lines = _wrapped(f"{name}: {introduction(kind)}")
    for setting in documented(kind):
        head = f"  --{name}.{setting.name} {setting.values}"
        lines += ["", f"{head} (default: {setting.default})", *_wrapped(setting.text, "      ", "      ")]
    return "\n".join(lines) + "\n"


def _row(left: str, right: str) -> str:
    return f"  {left:<33} {right}"


def _wrapped(text: str, further: str = "", first: str = "") -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=further, break_on_hyphens=False, break_long_words=False
    )
