"""What a fine-tuning strategy is: a value that says what is added to the model, what trains, and how."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import optax
from jax import Array

from flax_agnews.errors import UserError, nearest, shown
from flax_agnews.models.classifier import Classifier
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.optim import FROZEN, Plan, Transform

Adapt = Callable[[Classifier, Array], Classifier]
Label = Callable[[str, tuple[int, ...]], str | None]
Transforms = Callable[[Plan], Mapping[str, Transform]]


def unchanged(model: Classifier, key: Array) -> Classifier:
    """Adds nothing to the model."""
    return model


@dataclass(frozen=True)
class Strategy:
    """A way to fine-tune.

    Attributes:
        name: for folders, tables and pictures; a folder's own name, so without / and no dot in front.
        label: (path, shape) of a parameter -> "frozen", or a key of `transforms(plan)`.
        transforms: plan -> what each label does: an optax transformation, or "frozen".
        adapt: (classifier, random key) -> the classifier that trains; must leave the given one as it is.
        around: plan -> a transformation of all trained gradients before the labels' own; clipping by default.
        settings: what the strategy was made from, for its fingerprint.
    """

    name: str
    label: Label
    transforms: Transforms
    adapt: Adapt = unchanged
    around: Callable[[Plan], optax.GradientTransformation] = Plan.clip
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name = self.name
        if not name or name.startswith(".") or "/" in name or "\\" in name or not name.isprintable():
            allowed = "a name that a folder can have: printable, without / and \\, and no dot in front"
            raise UserError(f"strategy {shown(repr(name))}: must be {allowed}")

    @classmethod
    def by_pattern(
        cls,
        name: str,
        patterns: Mapping[str, Transform | Callable[[Plan], optax.GradientTransformation]],
        adapt: Adapt = unchanged,
        around: Callable[[Plan], optax.GradientTransformation] = Plan.clip,
    ) -> "Strategy":
        """A strategy from an ordered mapping of regular expressions over parameter paths; the first match wins.

        Args:
            name: for folders, tables and pictures.
            patterns: expression -> "frozen", an optax transformation, or a function that makes one from the plan.
                Every parameter must match one, and every expression must be the first match of some parameter.
            adapt, around: as in `Strategy`.
        """
        compiled = {pattern: _compile(name, pattern) for pattern in patterns}

        def label(path: str, shape: tuple[int, ...]) -> str | None:
            return next((pattern for pattern, regex in compiled.items() if regex.search(path)), None)

        def transforms(plan: Plan) -> Mapping[str, Transform]:
            fixed = (str, optax.GradientTransformation)
            return {pattern: what if isinstance(what, fixed) else what(plan) for pattern, what in patterns.items()}

        return cls(name, label, transforms, adapt, around, {"patterns": list(patterns)})

    def fingerprint(self, labels: Mapping[str, str | None]) -> str:
        """SHA-256 of labels by path and declared settings, so that an edited scheme isn't resumed unnoticed."""
        described = json.dumps([self.name, sorted(labels.items()), dict(self.settings)], sort_keys=True, default=str)
        return hashlib.sha256(described.encode()).hexdigest()


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"strategy {name}: {pattern} is no regular expression ({error})") from error


@dataclass(frozen=True)
class Entry:
    """A strategy as the registry knows it.

    Attributes:
        name: what `--strategy` calls it, and its section of settings.
        settings: dataclass of its settings, with defaults and a documented `Args:` section.
        build: (settings, body's configuration) -> the strategy.
        summary: what trains, in a few words.
    """

    name: str
    settings: type
    build: Callable[[Any, GPT2Config], Strategy]
    summary: str


def settings_of(settings: Any) -> dict[str, Any]:
    """A settings dataclass as a plain mapping."""
    return asdict(settings)


def require(ok: bool, setting: str, value: Any, allowed: str) -> None:
    """Raises a `UserError` that names the setting, its value and what is allowed, unless ok."""
    if not ok:
        raise UserError(f"--{setting} {value}: must be {allowed}")


class Registry:
    """Strategies by name. One `add` makes a strategy known to the command line, the tests and the library."""

    def __init__(self, *entries: Entry) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def add(self, entry: Entry) -> None:
        """Makes a strategy known; a taken name is an error."""
        if entry.name in self._entries:
            raise UserError(f"strategy {entry.name}: the name is taken")
        self._entries[entry.name] = entry

    def __iter__(self) -> Any:
        return iter(self._entries.values())

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            raise UserError(f"--strategy {name}: no such strategy.{nearest(name, ['all', *self._entries])}")
        return self._entries[name]


__all__ = ["FROZEN", "Entry", "Registry", "Strategy", "require", "settings_of", "unchanged"]
