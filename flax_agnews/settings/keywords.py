"""Checks the arguments of the library's functions as the command checks its flags; each error is one line."""

from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from flax_agnews.config import Config, TrainConfig
from flax_agnews.errors import UserError, flag, nearest, shown
from flax_agnews.settings.ranges import check_range, check_ranges
from flax_agnews.settings.synonyms import hint
from flax_agnews.system.files import fits

T = TypeVar("T")


def train_settings(
    call: str, given: Mapping[str, Any], base: TrainConfig, set_by: Mapping[str, str], arguments: Iterable[str] = ()
) -> TrainConfig:
    """Replaces training settings by the keyword arguments of a function call.

    Args:
        call: name of the function, for errors.
        given: name -> value of the function's `**train` arguments.
        base: the settings that they replace.
        set_by: name of a setting that can't be given this way -> what to do instead, for the error.
        arguments: names of the function's other arguments, suggested for a misspelt name.

    Raises:
        UserError: an unknown name, a value of another type, or one out of range; with what is allowed.
    """
    known, hints = [field.name for field in fields(TrainConfig)], get_type_hints(TrainConfig)
    made = {}
    for name, value in given.items():
        where = f"{call}({name}={shown(repr(value))})"
        if name in set_by:
            raise UserError(f"{where}: {set_by[name]}")
        if name not in known:
            unknown = f"{call}({name}=...): no such training setting."
            elsewhere = _elsewhere(name) or (f" {said}" if (said := hint(name)) else "")
            raise UserError(unknown + (elsewhere or nearest(name, [*known, *arguments])))
        made[name] = plain(value)
        if not fits(made[name], hints[name]):
            raise UserError(f"{where}: must be {allowed(hints[name])}")
        check_range(f"train.{name}", made[name], where)
    return replace(base, **made)


def check_config(config: Config) -> None:
    """Checks types, choices and ranges of all settings except those of strategies.

    Raises:
        UserError: a setting has another type, or is out of range; the first one is named.
    """
    if not isinstance(config, Config):
        raise UserError(f"{shown(repr(config))}: must be a Config, such as Config(output='runs/mine')")
    _check_types(config, "")
    for section in fields(Config):
        value, default = getattr(config, section.name), getattr(Config(), section.name)
        if is_dataclass(default) and not isinstance(default, type):
            kind = type(default)
            if not isinstance(value, kind):
                raise UserError(f"Config({section.name}={shown(repr(value))}): must be a {kind.__name__}")
            _check_types(value, f"{section.name}.")
    check_ranges(config)


def _check_types(settings: Any, prefix: str) -> None:
    """Checks the types of a section's fields, except those that are sections themselves."""
    for name, kind in get_type_hints(type(settings)).items():
        value = getattr(settings, name)
        if not is_dataclass(kind) and not fits(value, kind):
            raise UserError(f"{flag(prefix + name)} {shown(repr(value))}: must be {allowed(kind)}")


def check_kind(where: str, value: Any, kinds: type | tuple[type, ...], words: str) -> None:
    """Raises a `UserError` unless an argument's type is one of `kinds`.

    Args:
        where: beginning of the message, such as `fit(data=`.
        value: the argument.
        kinds: the allowed types; bool doesn't count as int.
        words: the allowed types in words.
    """
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise UserError(f"{where}{shown(repr(value))}): must be {words}")


def plain(value: Any) -> Any:
    """Converts numbers of NumPy and other libraries to Python's; other values are unchanged."""
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def allowed(hint: Any) -> str:
    """The type of a setting in words, for errors."""
    if get_origin(hint) is Literal:
        return " or ".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(allowed(option) for option in get_args(hint))
    names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "None"}
    return names.get(hint) or {list: "a list", dict: "a mapping"}.get(get_origin(hint) or hint, str(hint))


def _elsewhere(name: str) -> str:
    """A hint if `name` is a setting of another section of `Config`, else an empty string."""
    default = Config()
    for section in fields(Config):
        value = getattr(default, section.name)
        if is_dataclass(value) and name in {field.name for field in fields(value)}:
            kind = type(value).__name__
            return f" It is one of {section.name}: give Config({section.name}={kind}({name}=...))"
    return ""
