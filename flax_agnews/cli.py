"""Flags and YAML -> a `Config`. Each strategy's section comes from the registry."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from flax_agnews.config import Config, check_ranges
from flax_agnews.errors import UserError, nearest
from flax_agnews.strategies import REGISTRY, Entry, chosen


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        config: all settings.
        entries: the strategies to compare.
        overwrite: start over in an output folder that is in use.
    """

    config: Config
    entries: list[Entry]
    overwrite: bool


def make_parser() -> ArgumentParser:
    """The parser of `python -m flax_agnews.main`, with a section for each registered strategy."""
    default = Config()
    parser = ArgumentParser(
        prog="python -m flax_agnews.main",
        description="Fine-tune GPT-2 for text classification by several strategies, and compare them.",
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file of settings; flags after it win.")
    names = ", ".join(entry.name for entry in REGISTRY)
    parser.add_argument("--strategy", type=str, default=default.strategy, help=f"all, or some of: {names} (a,b).")
    parser.add_argument("--output", type=str, default=default.output, help="Folder for all that is made.")
    parser.add_argument("--overwrite", action="store_true", help="Start over in a folder that is in use.")
    for section in _sections():
        value = getattr(default, section)
        parser.add_argument(f"--{section}", type=type(value), default=value)
    for entry in REGISTRY:
        parser.add_argument(f"--{entry.name}", type=entry.settings, default=entry.settings())
    return parser


def parse(arguments: Sequence[str]) -> Request:
    """Command-line arguments -> a request.

    Raises:
        UserError: an unknown flag, key or strategy (with the nearest real ones), a wrong type or range.
        SystemExit: `--help` and `--print_config`, after printing.
    """
    parser = make_parser()
    known = _known_settings()
    _check_flags(arguments, {"config", "print_config", "help", *known})
    for path in _config_files(arguments):
        _check_file(path, known)
    try:
        values = parser.instantiate(parser.parse_args(list(arguments)))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # jsonargparse raises its own and argparse's
        if isinstance(error, SystemExit) and not error.code:
            raise
        raise UserError(_one_line(str(error))) from error
    entries = chosen(values.strategy)
    config = Config(
        strategy=",".join(entry.name for entry in entries),
        output=values.output,
        **{section: getattr(values, section) for section in _sections()},
        strategies={entry.name: getattr(values, entry.name) for entry in entries},
    )
    check_ranges(config)
    return Request(config, entries, values.overwrite)


_PLAIN = ("strategy", "output", "overwrite")
"""Settings that are no section."""


def _sections() -> list[str]:
    """Names of the shared sections."""
    return [field.name for field in fields(Config) if is_dataclass(getattr(Config(), field.name))]


def _known_settings() -> set[str]:
    """`train.epochs` and all others, sections and plain ones included."""
    kinds = {section: type(getattr(Config(), section)) for section in _sections()}
    kinds |= {entry.name: entry.settings for entry in REGISTRY}
    return {*_PLAIN, *kinds} | {f"{section}.{field.name}" for section, kind in kinds.items() for field in fields(kind)}


def _check_flags(arguments: Iterable[str], known: set[str]) -> None:
    for argument in arguments:
        if argument.startswith("--") and (name := argument[2:].split("=")[0]):
            _check_name(name, known, f"--{name}", "--")


def _check_name(name: str, known: set[str], shown: str, prefix: str) -> None:
    if name not in known and not name.startswith("model.from_config."):
        section = name.split(".")[0]
        fellows = [k for k in known if k.startswith(f"{section}.")] or [k for k in known if "." not in k]
        close = nearest(name, known)
        hint = close if "Did you mean" in close else nearest(name, fellows)
        hint = re.sub(r"(?<=[ ])([a-z_]+(?:\.[a-z_]+)?)(?=[,?.]| or)", rf"{prefix}\1", hint)
        raise UserError(f"{shown}: no such setting.{hint}")


def _config_files(arguments: Sequence[str]) -> list[Path]:
    files = [a.split("=", 1)[1] for a in arguments if a.startswith("--config=")]
    files += [b for a, b in pairwise(arguments) if a == "--config"]
    return [Path(file).expanduser() for file in files]


def _check_file(path: Path, known: set[str]) -> None:
    """A YAML file's keys, before the parser sees it."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError:
        raise UserError(f"--config {path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--config {path}: can't be read ({_one_line(str(error))})") from None
    except yaml.YAMLError as error:
        raise UserError(f"--config {path}: not YAML ({_one_line(str(error))})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"--config {path}: must be a mapping of sections, such as train: {{epochs: 3}}")
    for name in _names(content, known):
        _check_name(name, known, f"{path}: {name}", "")
    for name, value in content.items():
        if name not in _PLAIN and not isinstance(value, Mapping):
            raise UserError(f"{path}: {name} {value}: must be a mapping of settings, such as {name}: {{name: value}}")


def _names(content: Mapping[Any, Any], known: set[str]) -> Iterable[str]:
    for key, value in content.items():
        inner = isinstance(value, Mapping) and any(name.startswith(f"{key}.") for name in known)
        yield from (f"{key}.{field}" for field in value) if inner else [str(key)]


def _one_line(message: str) -> str:
    """The parser's message in our form: `--train.epochs abc: expected int`."""
    flat = " ".join(message.split())
    plain = re.match(r'Parser key "([\w.]+)": (.*) Got value: (.*)$', flat)
    union = re.match(r'Parser key "([\w.]+)": .*Subtypes: \[(.*?)\] .*Given value: (.*)$', flat)
    if not (found := union or plain):
        return flat
    key, expected, value = found.groups()
    if union:
        expected = "expected " + expected.replace("<class 'NoneType'>", "null").replace(", ", " or ")
    expected = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", expected)
    expected = re.sub(r"typing\.Literal\[(.*?)\]", lambda m: m.group(1).replace("'", ""), expected)
    expected = re.sub(r"^Expected an? ", "expected ", expected).rstrip(".")
    return f"--{key} {value}: {expected}"
