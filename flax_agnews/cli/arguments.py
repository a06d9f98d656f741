"""Parses the flags and YAML files of training into a `Config`; the strategies' sections come from the registry."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import SUPPRESS, ArgumentParser, get_loader, set_dumper, set_loader

from flax_agnews.cli.help import help_request, training_help
from flax_agnews.cli.named_configs import with_paths
from flax_agnews.config import Config
from flax_agnews.errors import UserError, close_names, nearest, shown
from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.settings.ranges import check_ranges
from flax_agnews.settings.synonyms import hint
from flax_agnews.strategies import REGISTRY, Entry, chosen
from flax_agnews.system.files import Aliased, dump_yaml, parse_yaml, read_yaml, yaml_text

MAIN = "python -m flax_agnews.main"


@dataclass(frozen=True)
class Request:
    """The parsed command line of training.

    Attributes:
        config: all settings.
        entries: the strategies to compare.
        overwrite: start over in an output folder that is in use.
        list_strategies: print a table of all strategies instead of training.
        dry_run: print what would run, and how long it would take, instead of training.
    """

    config: Config
    entries: list[Entry]
    overwrite: bool
    list_strategies: bool = False
    dry_run: bool = False


class _Parser(ArgumentParser):
    """A parser that reads YAML files as UTF-8, whatever the locale."""

    def parse_path(self, cfg_path: Any, *rest: Any, **how: Any) -> Any:
        """Parses the settings in a YAML file."""
        return self.parse_string(yaml_text(Path(cfg_path)), *rest, **how)


def make_parser(prog: str = MAIN) -> ArgumentParser:
    """The parser of training's flags and files, with a section for each registered strategy."""
    default = Config()
    parser = _Parser(
        prog=prog,
        exit_on_error=False,
        parser_mode=_WORDS,
    )
    parser.add_argument("--config", action="config")
    parser.add_argument("--strategy", type=str, default=default.strategy)
    parser.add_argument("--list_strategies", action="store_true")
    parser.add_argument("--dry_run", action="store_true")
    parser.add_argument("--output", type=str, default=default.output)
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("--custom", type=list[str], default=[], help=SUPPRESS)  # only in config.yaml
    for section in _sections():
        value = getattr(default, section)
        parser.add_argument(f"--{section}", type=type(value), default=value)
    for entry in REGISTRY:
        parser.add_argument(f"--{entry.name}", type=entry.settings, default=entry.settings())
    return parser


def parse(arguments: Sequence[str], prog: str = MAIN) -> Request:
    """Parses training's command-line arguments and the YAML files that they name.

    Args:
        arguments: the command-line arguments.
        prog: name of the command in its help.

    Raises:
        UserError: an unknown flag, key or strategy (with the nearest real ones), a wrong type or range.
        SystemExit: `--help` and `--print_config`, after printing.
    """
    if (asked := help_request(arguments)) is not None:
        print(training_help(asked, prog, section_kinds(), [entry.name for entry in REGISTRY]), end="")
        raise SystemExit(0)
    arguments = _with_long_names(with_paths(arguments))
    parser = make_parser(prog)
    known = _known_settings()
    _check_flags(arguments, {"config", "print_config", "help", *known})
    for path in _config_files(arguments):
        _check_file(path, known)
    try:
        values = parser.instantiate(parser.parse_args(arguments))
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # jsonargparse raises its own and argparse's
        if isinstance(error, SystemExit) and not error.code:
            raise
        raise UserError(_one_line(str(error))) from error
    _check_nulls(values)
    if isinstance(values.model.from_config, Mapping):
        for name in values.model.from_config:
            _check_name(f"{_FROM_CONFIG}{name}", known, f"{_FROM_CONFIG}{name}", "")
    _check_custom(values)
    entries = chosen("every" if values.list_strategies else values.strategy)
    config = Config(
        strategy=",".join(entry.name for entry in entries),
        output=values.output,
        **{section: getattr(values, section) for section in _sections()},
        strategies={entry.name: getattr(values, entry.name) for entry in entries},
    )
    check_ranges(config)
    return Request(config, entries, values.overwrite, values.list_strategies, values.dry_run)


def _with_long_names(arguments: Sequence[str]) -> list[str]:
    """Command-line arguments with `--shard` written out."""
    return [re.sub(r"^--shard(?==|$)", "--parallel.shard", argument) for argument in arguments]


_WORDS = "yaml with words"


def _load(text: str) -> Any:
    """Loads YAML like jsonargparse's loader, but keeps `off`, `on`, `no` and `yes` as strings."""
    value = get_loader("yaml")(text)
    return value if isinstance(value, str) else parse_yaml(text)


set_loader(_WORDS, _load, (yaml.YAMLError, ValueError))
set_dumper(_WORDS, partial(dump_yaml, allow_unicode=True))


def _check_custom(values: Any) -> None:
    """Raises a `UserError` for a chosen strategy that only a script defines, so that this command can't run it."""
    names = [part.strip() for part in values.strategy.split(",")]
    if own := [name for name in names if name in values.custom]:
        rest = ",".join(name for name in names if name not in own)
        others = f", or choose --strategy {rest}" if rest else ""
        where = "is a strategy of a script that uses the library"
        raise UserError(f"--strategy {values.strategy}: {own[0]} {where}; run that script again{others}")


_PLAIN = ("strategy", "list_strategies", "dry_run", "output", "overwrite", "custom")
"""Settings outside the sections."""

_FROM_CONFIG = "model.from_config."


def _sections() -> list[str]:
    """Names of the sections of `Config`, without those of strategies."""
    return [field.name for field in fields(Config) if is_dataclass(getattr(Config(), field.name))]


def _known_settings() -> set[str]:
    """Names of all settings, such as `train.epochs`; also the names of sections and of settings outside sections."""
    kinds = section_kinds()
    return {*_PLAIN, *kinds} | {f"{section}.{field.name}" for section, kind in kinds.items() for field in fields(kind)}


def section_kinds() -> dict[str, type]:
    """Section -> dataclass of its settings."""
    shared = {section: type(getattr(Config(), section)) for section in _sections()}
    return shared | {entry.name: entry.settings for entry in REGISTRY}


def _check_nulls(values: Any) -> None:
    """Raises a `UserError` for null as the value of a setting that can't be None, which the parser accepts."""
    nulls = [name for name in _PLAIN if getattr(values, name) is None]
    for section, kind in section_kinds().items():
        given, hints = getattr(values, section), get_type_hints(kind)
        never = (field.name for field in fields(kind) if type(None) not in get_args(hints[field.name]))
        nulls += [f"{section}.{name}" for name in never if getattr(given, name) is None]
    if nulls:
        raise UserError(f"--{nulls[0]} null: must have a value")


def _check_flags(arguments: Sequence[str], known: set[str]) -> None:
    """Raises a `UserError` for a flag that is no setting.

    Whole sections aren't allowed either: the parser would import a class that their value names.
    """
    for before, argument in pairwise(("", *arguments)):
        _check_text(
            argument.split("=", 1)[-1], shown(argument if argument.startswith("--") else f"{before} {argument}")
        )
        if argument.startswith("--") and (name := argument[2:].split("=")[0]):
            _check_name(name, known, f"--{name}", "--")
            if "." not in name and (inside := sorted(k for k in known if k.startswith(f"{name}."))):
                raise UserError(f"--{name}: is a section; give its settings one by one, such as --{inside[0]}")


def _check_text(text: str, place: str) -> None:
    """Raises a `UserError` for a value with YAML aliases, which the parser would expand, also in its error message."""
    try:
        parse_yaml(text)
    except Aliased as error:
        raise UserError(f"{place}: {error}") from None
    except ValueError:  # not YAML: plain text
        return


def _texts(content: Any) -> Iterable[str]:
    """All strings in a YAML file's content, also in nested mappings and lists."""
    if isinstance(content, Mapping | list):
        for value in content.values() if isinstance(content, Mapping) else content:
            yield from _texts(value)
    elif isinstance(content, str):
        yield content


def _check_name(name: str, known: set[str], place: str, prefix: str) -> None:
    """Raises a `UserError` that suggests similar names unless `name` is a setting.

    Args:
        name: the name, without `--`.
        known: names of all settings.
        place: the beginning of the error: the flag, or file and name.
        prefix: put before the settings that the error names: `--` for flags, empty for files.
    """
    if name.startswith(_FROM_CONFIG):
        known = {_FROM_CONFIG + field.name for field in fields(GPT2Config)} | {f"{_FROM_CONFIG}model_type"}
    if name not in known:
        if (elsewhere := hint(name, prefix)) and not name.startswith(_FROM_CONFIG):
            raise UserError(f"{shown(place, 200)}: no such setting. {elsewhere}")
        section = name.split(".")[0]
        fellows = [k for k in known if k.startswith(f"{section}.")] or [k for k in known if "." not in k]
        near = nearest(name, known if close_names(name, known) else fellows, prefix=prefix)
        raise UserError(f"{shown(place, 200)}: no such setting.{near}")


def _config_files(arguments: Sequence[str]) -> list[Path]:
    files = [a.split("=", 1)[1] for a in arguments if a.startswith("--config=")]
    files += [b for a, b in pairwise(arguments) if a == "--config"]
    return [Path(file) for file in files]


def _check_file(path: Path, known: set[str]) -> None:
    """Checks the keys and values of a YAML file before the parser reads it."""
    try:
        content = read_yaml(path)
    except FileNotFoundError:  # a link to nothing
        raise UserError(f"--config {path}: no such file") from None
    except OSError as error:
        raise UserError(f"--config {path}: can't be read ({_one_line(str(error))})") from None
    except ValueError as error:
        raise UserError(f"--config {path}: not YAML ({error})") from None
    if not isinstance(content, Mapping):
        raise UserError(f"--config {path}: must be a mapping of sections, such as train: {{epochs: 3}}")
    for text in _texts(content):
        _check_text(text, f"{path}: {shown(text)}")
    for name in _names(content, known):
        _check_name(name, known, f"{path}: {name}", "")
    for name, value in content.items():
        if name not in _PLAIN and not isinstance(value, Mapping):
            place = f"{path}: {name} {shown(value)}"
            raise UserError(f"{place}: must be a mapping of settings, such as {name}: {{name: value}}")


def _names(content: Mapping[Any, Any], known: set[str]) -> Iterable[str]:
    """The names of all settings in a file's content: `train.epochs`, or the key where it is no section."""
    for key, value in content.items():
        inner = isinstance(value, Mapping) and any(name.startswith(f"{key}.") for name in known)
        yield from (f"{key}.{field}" for field in value) if inner else [str(key)]


def _one_line(message: str) -> str:
    """Rewrites an error message of jsonargparse: `--train.epochs abc: expected int`."""
    flat = " ".join(message.split())
    plain = re.match(r'Parser key "([\w.]+)": (.*) Got value: (.*)$', flat)
    union = re.match(r'Parser key "([\w.]+)": .*Subtypes: \[(.*?)\] .*Given value: (.*)$', flat)
    if not (found := union or plain):
        return shown(flat, 500) if " " in flat else f"a value can't be read ({shown(flat)})"
    key, expected, value = found.groups()
    if union:
        expected = re.sub(r"dict\[.*?\]", "a mapping of plain values", expected)
        expected = "expected " + expected.replace("<class 'NoneType'>", "null").replace(", ", " or ")
    expected = re.sub(r"<class '(?:[\w.]*\.)?(\w+)'>", r"\1", expected)
    expected = re.sub(r"typing\.Literal\[(.*?)\]", lambda m: m.group(1).replace("'", ""), expected)
    expected = re.sub(r"^Expected an? ", "expected ", expected).rstrip(".")
    return f"--{key} {shown(value, 100)}: {expected}"
