"""Reads the settings of a dataclass: name, type, default and what its docstring says."""

import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields
from inspect import cleandoc
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        name: with its section: `train.epochs`.
        kind: its type in words.
        default: as a YAML file has it.
        text: Markdown; what the docstring says of it.
    """

    name: str
    kind: str
    default: str
    text: str


def settings(section: str, kind: type) -> Iterator[Setting]:
    """The settings of a section, in their order; a field that the docstring leaves out has no text."""
    hints, texts = get_type_hints(kind), arguments(kind)
    for field in fields(kind):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        yield Setting(f"{section}.{field.name}", words(hints[field.name]), plain(default), texts.get(field.name, ""))


def first_paragraph(of: Any) -> str:
    """The first paragraph of a docstring, on one line."""
    return " ".join(cleandoc(of.__doc__ or "").split("\n\n")[0].split())


def arguments(of: type) -> dict[str, str]:
    """Name -> text of the `Args:` of a class and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(of.__mro__):
        text = cleandoc(kind.__dict__.get("__doc__") or "")
        body = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", text, re.M)
        for entry in re.split(r"\n(?=    \w)", body.group(1).rstrip()) if body else []:
            names, _, said = entry.strip().partition(":")
            sentence = " ".join(said.split())
            found |= {name.strip(): sentence[:1].upper() + sentence[1:] for name in names.split(",")}
    return found


def words(hint: Any) -> str:
    """A type in words: `whole number or none`."""
    if get_origin(hint) is Literal:
        return " | ".join(f"`{option}`" for option in get_args(hint))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(dict.fromkeys(words(option) for option in get_args(hint)))
    names = {int: "whole number", float: "number", str: "text", bool: "`true` | `false`", NoneType: "none"}
    kinds = {list: "list", tuple: "list", dict: "mapping"}
    return names.get(hint) or kinds.get(get_origin(hint) or hint, "list of texts")


def plain(value: Any) -> str:
    """A default as it is written in YAML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(str, value))}]"
    return "none" if value is None else str(value)
