"""What a fine-tuning strategy is: a value that says what is added to the model, what trains, and how."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, ClassVar, Protocol, TypeAlias, get_type_hints

import optax
from jax import Array

from flax_agnews.errors import UserError, listed, nearest, shown
from flax_agnews.models.classifier import Classifier
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.settings.keywords import allowed, plain
from flax_agnews.settings.synonyms import hint
from flax_agnews.strategies.optim import FROZEN, Plan, Transform
from flax_agnews.strategies.peft import Peft
from flax_agnews.system.files import fits

Adapt = Callable[[Classifier, Array], Classifier]
Label = Callable[[str, tuple[int, ...]], str | None]
Transforms = Callable[[Plan], Mapping[str, Transform]]


def unchanged(model: Classifier, key: Array) -> Classifier:
    """Adds nothing to the model."""
    return model


@dataclass(frozen=True)
class Stage:
    """What trains from an epoch on, until the next stage begins.

    Attributes:
        epoch: from 0.
        labels: those that train; the others' parameters and optimizer states stay as they are.
    """

    epoch: int
    labels: Collection[str]


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
        stages: where not everything trains from first to last; the first begins at epoch 0. A transformation counts
            only the updates in which its label trains (`Plan.schedule` can be told of those before).
        peft: the same method in PEFT, where it has one.
    """

    name: str
    label: Label
    transforms: Transforms
    adapt: Adapt = unchanged
    around: Callable[[Plan], optax.GradientTransformation] = Plan.clip
    settings: Mapping[str, Any] = field(default_factory=dict)
    stages: Sequence[Stage] = ()
    peft: Peft | None = None

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
        stages: Sequence[Stage] = (),
    ) -> "Strategy":
        """A strategy from an ordered mapping of regular expressions over parameter paths; the first match wins.

        Args:
            name: for folders, tables and pictures.
            patterns: expression (`layers(6, 12)` is one) -> "frozen", an optax transformation, or a function that makes
                one from the plan. Every parameter must match one, and every expression must be the first match of some
                parameter.
            adapt, around, stages: as in `Strategy`; the labels of stages are expressions.
        """
        compiled = {pattern: _compile(name, pattern) for pattern in patterns}

        def label(path: str, shape: tuple[int, ...]) -> str | None:
            return next((pattern for pattern, regex in compiled.items() if regex.search(path)), None)

        def transforms(plan: Plan) -> Mapping[str, Transform]:
            return {pattern: what(plan) if callable(what) else what for pattern, what in patterns.items()}

        return cls(name, label, transforms, adapt, around, {"patterns": list(patterns)}, stages)

    def reached(self, transforms: Mapping[str, Transform], epochs: int) -> list[Stage]:
        """The stages that so many epochs reach; none where everything trains from first to last.

        Raises:
            UserError: stages that are out of order, or name a label that has nothing to train, or leave one out.
        """
        trained = [label for label, transform in transforms.items() if transform != FROZEN]
        named = {label for stage in self.stages for label in stage.labels}
        starts = [stage.epoch for stage in self.stages]
        if starts and (starts[0] != 0 or any(a >= b for a, b in pairwise(starts))):
            told = listed(map(str, starts))
            raise UserError(f"strategy {self.name}: its stages begin at epochs {told}; must be 0, then ascending")
        for stage in self.stages:
            where = f"strategy {self.name}: the stage from epoch {stage.epoch} trains"
            if not stage.labels:
                raise UserError(f"{where} nothing")
            if unknown := [label for label in stage.labels if label not in trained]:
                raise UserError(f"{where} {unknown[0]}, no label that trains.{nearest(unknown[0], trained)}")
        if starts and (never := [label for label in trained if label not in named]):
            raise UserError(f"strategy {self.name}: no stage trains {listed(never)}")
        return [stage for stage in self.stages if stage.epoch < epochs]

    def fingerprint(self, labels: Mapping[str, str | None]) -> str:
        """SHA-256 of labels by path, declared settings and stages, so that an edited scheme isn't resumed unnoticed."""
        stages = [[stage.epoch, sorted(stage.labels)] for stage in self.stages]
        facts = [self.name, sorted(labels.items()), dict(self.settings), *stages]
        described = json.dumps(facts, sort_keys=True, default=str)
        return hashlib.sha256(described.encode()).hexdigest()


def _compile(name: str, pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UserError(f"strategy {name}: {pattern} is no regular expression ({error})") from error


class Settings(Protocol):
    """Settings of a strategy: any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A registered strategy, with settings of its own where it was called: `lora(rank=4)` is an `Entry` too.

    Attributes:
        name: what `--strategy` calls it, and its section of settings.
        settings: dataclass of its settings, with defaults and a documented `Args:` section; `settings()` has defaults.
        build: (settings, body's configuration) -> the strategy.
        summary: what trains, in a few words.
        paper: URL of the method's.
        settings_given: settings that were chosen in a script; None where those of the configuration or defaults hold.
    """

    name: str
    settings: type
    build: Callable[[Any, GPT2Config], Strategy]
    summary: str
    paper: str = ""
    settings_given: Settings | None = field(default=None, hash=False)

    def __call__(self, **settings: Any) -> "Entry":
        """The same strategy with other settings: those given by name, and for the rest this entry's.

        Raises:
            UserError: an unknown name, with the nearest one, or a value of another type.
        """
        hints = get_type_hints(self.settings)
        for name, value in settings.items():
            if name not in hints:
                told = f"{self.name}({name}={shown(repr(value))}): no such setting."
                raise UserError(told + (f" {said}" if (said := hint(name)) else nearest(name, hints)))
        current: Any = self.settings_given or self.settings()
        made = replace(current, **{name: plain(value) for name, value in settings.items()})
        for name, value in settings.items():
            if not fits(getattr(made, name), hints[name]):
                raise UserError(f"{self.name}({name}={shown(repr(value))}): must be {allowed(hints[name])}")
        return replace(self, settings_given=made)


StrategyLike: TypeAlias = str | Entry | Strategy | Settings
"""What says which strategy is meant: a registered name, an entry, a strategy, or the settings of a registered one."""


def layers(first: int, end: int) -> str:
    """The pattern of all parameters of layers `first` to `end` (without it), for `Strategy.by_pattern`."""
    if type(first) is not int or type(end) is not int:
        raise UserError(f"layers({shown(repr(first))}, {shown(repr(end))}): must be two whole numbers")
    if not 0 <= first < end:
        raise UserError(f"layers({first}, {end}): holds no layer; the first must be 0 or more, and below the end")
    return f"^transformer/h/({'|'.join(map(str, range(first, end)))})/"


def height(path: str, layers: int) -> int:
    """How high a parameter stands: 0 for the embeddings, 1 to `layers` in a layer, `layers` + 1 for all else."""
    parts = path.split("/")
    if parts[:2] == ["transformer", "h"]:
        return int(parts[2]) + 1
    return 0 if parts[:2] in (["transformer", "wte"], ["transformer", "wpe"]) else layers + 1


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
            raise UserError(f"--strategy {name}: no such strategy.{nearest(name, ['all', 'every', *self._entries])}")
        return self._entries[name]


__all__ = [
    "FROZEN",
    "Entry",
    "Registry",
    "Settings",
    "Stage",
    "Strategy",
    "StrategyLike",
    "height",
    "layers",
    "require",
    "settings_of",
    "unchanged",
]
