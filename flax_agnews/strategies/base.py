"""Defines a fine-tuning strategy (what it adds to the model, what trains, with which optimizers) and the registry."""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, get_type_hints

from flax_agnews.errors import UserError, flag, listed, nearest, shown
from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.settings.keywords import allowed, plain
from flax_agnews.settings.synonyms import hint
from flax_agnews.strategies.paths import height, in_head, layers
from flax_agnews.strategies.peft import Peft
from flax_agnews.strategies.plan import FROZEN, Plan, Transform
from flax_agnews.system.files import fits

if TYPE_CHECKING:  # the command line reads the registry without JAX
    import optax
    from jaxtyping import Array, Key

    from flax_agnews.models.classifier import ClassifierModule

Adapt: TypeAlias = "Callable[[ClassifierModule, Key[Array, '']], ClassifierModule]"
"""(classifier, random key) -> the classifier with what the strategy adds, such as LoRA updates."""

Label = Callable[[str, tuple[int, ...]], str | None]
"""(path, shape) of a parameter -> its label, which chooses its optimizer; None (an error) where no label fits."""

Transforms = Callable[[Plan], Mapping[str, Transform]]
"""Plan -> (label -> optax transformation, or "frozen")."""


def unchanged(model: "ClassifierModule", key: "Key[Array, '']") -> "ClassifierModule":
    """The `adapt` of strategies that add nothing to the model."""
    return model


@dataclass(frozen=True)
class Stage:
    """A range of epochs in which only some labels train; it ends where the next stage begins.

    Attributes:
        epoch: first epoch of the stage, from 0.
        labels: labels that train; parameters and optimizer states of the others stay as they are.
    """

    epoch: int
    labels: Collection[str]


@dataclass(frozen=True)
class Strategy:
    """A fine-tuning strategy: how it adapts the model, which parameters train, and with which optimizers.

    Attributes:
        name: names its output folder, table rows and curves; must be valid as a folder's name.
        label: (path, shape) of a parameter -> "frozen", or a key of `transforms(plan)`.
        transforms: plan -> (label -> optax transformation, or "frozen").
        adapt: (classifier, random key) -> the classifier with what the strategy adds; must not change the given one.
        around: plan -> optax transformation of all trained gradients, before those of the labels; clipping by default.
        settings: values that the strategy was made from; a run is only resumed with the same ones.
        stages: ranges of epochs in which only some labels train, the first from epoch 0; empty if all train throughout.
            A transformation counts only the updates in which its label trains (`Plan.schedule` has `begun` for those
            before).
        peft: how the method is written as a PEFT adapter; None where PEFT has no such method.
    """

    name: str
    label: Label
    transforms: Transforms
    adapt: Adapt = unchanged
    around: "Callable[[Plan], optax.GradientTransformation]" = Plan.clip
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
        patterns: "Mapping[str, Transform | Callable[[Plan], optax.GradientTransformation]]",
        adapt: Adapt = unchanged,
        around: "Callable[[Plan], optax.GradientTransformation]" = Plan.clip,
        stages: Sequence[Stage] = (),
    ) -> "Strategy":
        """Makes a strategy from an ordered mapping of regular expressions over parameter paths; the first match wins.

        Args:
            name: as in `Strategy`.
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
        """The stages that a run reaches; none where everything trains from first to last.

        Args:
            transforms: label -> transformation, of the strategy.
            epochs: number of epochs of the run.

        Raises:
            UserError: stages are out of order, name a label that doesn't train, or leave out one that does.
        """
        trained = [label for label, transform in transforms.items() if transform != FROZEN]
        named = {label for stage in self.stages for label in stage.labels}
        starts = [stage.epoch for stage in self.stages]
        if starts and (starts[0] != 0 or any(a >= b for a, b in pairwise(starts))):
            starting = listed(map(str, starts))
            raise UserError(f"strategy {self.name}: its stages begin at epochs {starting}; must be 0, then ascending")
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
        """SHA-256 of name, labels, settings and stages; a run is only resumed if it is unchanged.

        Args:
            labels: path -> label of every parameter of the model.
        """
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
    """The type of a strategy's settings: any dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


@dataclass(frozen=True)
class Entry:
    """A registered strategy. Calling it gives an entry with other settings: `lora(rank=4)`.

    Attributes:
        name: its name in `--strategy`, and of its section of settings.
        settings: dataclass of its settings; every field has a default, and a text in the docstring's `Args:` for help.
        build: (settings, body's configuration) -> the strategy.
        summary: what trains, in a few words.
        paper: URL of the method's paper.
        settings_given: settings chosen by calling the entry; None for those of the configuration, or the defaults.
    """

    name: str
    settings: type
    build: Callable[[Any, GPT2Config], Strategy]
    summary: str
    paper: str = ""
    settings_given: Settings | None = field(default=None, hash=False)

    def __call__(self, **settings: Any) -> "Entry":
        """Returns the entry with some settings replaced, given by name.

        Raises:
            UserError: a name is unknown (the nearest one is suggested), or a value has the wrong type.
        """
        hints = get_type_hints(self.settings)
        for name, value in settings.items():
            if name not in hints:
                message = f"{self.name}({name}={shown(repr(value))}): no such setting."
                raise UserError(message + (f" {advice}" if (advice := hint(name)) else nearest(name, hints)))
        current: Any = self.settings_given or self.settings()
        made = replace(current, **{name: plain(value) for name, value in settings.items()})
        for name, value in settings.items():
            if not fits(getattr(made, name), hints[name]):
                raise UserError(f"{self.name}({name}={shown(repr(value))}): must be {allowed(hints[name])}")
        return replace(self, settings_given=made)


StrategyLike: TypeAlias = str | Entry | Strategy | Settings
"""A strategy as functions accept it: a registered name, an entry, a `Strategy`, or settings of a registered one."""


def at_one_rate(
    name: str,
    settings: Any,
    trains: Callable[[str], bool],
    *,
    label: str = "",
    section: str = "",
    adapt: Adapt = unchanged,
    peft: Peft | None = None,
) -> Strategy:
    """Makes a strategy that trains some parameters, all with AdamW at `settings.learning_rate`, and freezes the others.

    Args:
        name: name of the strategy.
        settings: its settings dataclass, with a `learning_rate`.
        trains: path -> whether the parameter trains.
        label: label of the trained parameters; by default the name.
        section: section of the settings, named in errors; by default the name.
        adapt, peft: as in `Strategy`.
    """
    rate, label = settings.learning_rate, label or name
    require(rate > 0, f"{section or name}.learning_rate", rate, "above 0")
    return Strategy(
        name=name,
        adapt=adapt,
        label=lambda path, shape: label if trains(path) else FROZEN,
        transforms=lambda plan: {label: plan.adamw(rate)},
        settings=settings_of(settings),
        peft=peft,
    )


def settings_of(settings: Any) -> dict[str, Any]:
    """A settings dataclass as a dictionary by name, for `Strategy.settings`."""
    return asdict(settings)


def require(ok: bool, setting: str, value: Any, allowed: str) -> None:
    """Raises a `UserError` that names the setting, its value and the allowed values, unless `ok`."""
    if not ok:
        raise UserError(f"{flag(setting)} {value}: must be {allowed}")


class Registry:
    """The strategies that can be chosen by name on the command line and in the library; the contract tests run all."""

    def __init__(self, *entries: Entry) -> None:
        self._entries = {entry.name: entry for entry in entries}

    def add(self, entry: Entry) -> None:
        """Registers a strategy; raises a `UserError` if its name is taken."""
        if entry.name in self._entries:
            raise UserError(f"strategy {entry.name}: the name is taken")
        self._entries[entry.name] = entry

    def __iter__(self) -> Any:
        return iter(self._entries.values())

    def __getitem__(self, name: str) -> Entry:
        if name not in self._entries:
            raise UserError(
                f"{flag('strategy')} {name}: no such strategy.{nearest(name, ['all', 'every', *self._entries])}"
            )
        return self._entries[name]


__all__ = [
    "FROZEN",
    "Entry",
    "Registry",
    "Settings",
    "Stage",
    "Strategy",
    "StrategyLike",
    "at_one_rate",
    "height",
    "in_head",
    "layers",
    "require",
    "settings_of",
    "unchanged",
]
