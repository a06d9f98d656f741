"""The settings' documentation, read from the docstrings of their dataclasses, for help texts and manuals."""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docstring_parser import parse


@dataclass(frozen=True)
class Documented:
    """The documentation of one setting.

    Attributes:
        name: of the field, without its section.
        values: the allowed values: `INT`, `float32|bfloat16`, `TEXT or null`.
        default: the default as written in YAML: `null` for None.
        text: a sentence or more, from the dataclass's docstring.
    """

    name: str
    values: str
    default: str
    text: str


def introduction(kind: type) -> str:
    """The introduction of a section of settings: its dataclass's docstring up to the arguments, on one line."""
    parsed = parse(kind.__doc__ or "")
    return " ".join(" ".join(part.split()) for part in (parsed.short_description, parsed.long_description) if part)


def documented(kind: type) -> list[Documented]:
    """All settings of a section's dataclass, in their order, inherited ones included."""
    texts, hints = _texts(kind), get_type_hints(kind)
    return [
        Documented(field.name, values(hints[field.name]), written(_default(field)), texts.get(field.name, ""))
        for field in fields(kind)
    ]


def values(hint: Any) -> str:
    """The values that a type hint allows, in words: `INT`, `true|false`, `a|b` for a choice, `TEXT or null`."""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(values(option) for option in get_args(hint))
    if get_origin(hint) is list:
        return f"[{values(get_args(hint)[0])}, ...]"
    if get_origin(hint) is dict:
        return "{name: value}"
    return {int: "INT", float: "NUMBER", str: "TEXT", bool: "true|false", type(None): "null"}[hint]


def written(value: Any) -> str:
    """A default value as written in YAML and in flags."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _default(field: Any) -> Any:
    return field.default_factory() if field.default is MISSING else field.default


def _texts(kind: type) -> Mapping[str, str]:
    """Setting -> its description in the docstring of a dataclass, or of the classes that it inherits from."""
    found: dict[str, str] = {}
    for part in reversed(kind.__mro__[:-1]):
        found |= {
            about.arg_name: " ".join((about.description or "").split()) for about in parse(part.__doc__ or "").params
        }
    return found
