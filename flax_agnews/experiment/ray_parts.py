"""What a driver sends to its Ray tasks, and what they send back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from flax_agnews.config import Config
from flax_agnews.strategies.base import Entry, Strategy
from flax_agnews.training.adaptation import Adaptation


@dataclass(frozen=True)
class Terms:
    """What all tasks of a driver have in common.

    Attributes:
        token: name of the driver's token in the output folder (`ray_cluster.check_nodes`).
        config: the settings of a task, with absolute paths; it doesn't use Ray itself.
        strategies: the strategies that are compared.
        facts: what a task must have read too (`Prepared.facts`).
    """

    token: str
    config: Config
    strategies: Sequence[Entry | Strategy]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """What one task does.

    Attributes:
        kind: language modelling, a search of a strategy's rates, or runs.
        name: name of the strategy; empty for language modelling.
        factor: factor on the strategy's learning rates; None for its own.
        seeds: seeds of the runs.
        adaptation: how the body was adapted that runs start from; None if it wasn't.
    """

    kind: Literal["adapt", "search", "train"]
    name: str = ""
    factor: float | None = None
    seeds: Sequence[int] = ()
    adaptation: Adaptation | None = None


@dataclass(frozen=True)
class Outcome:
    """How a task ended.

    Attributes:
        error: a `UserError`'s message; empty without one.
        stopped: where it stopped when it was asked to; empty if it is done.
        faults: runs that stopped because their numbers were not finite.
        written: seeds whose results are written.
        factor: the chosen factor, of a search.
        adaptation: the result of language modelling.
        machine: facts of the machine, for results.json.
    """

    error: str = ""
    stopped: str = ""
    faults: Sequence[str] = ()
    written: Sequence[int] = ()
    factor: float | None = None
    adaptation: Adaptation | None = None
    machine: Mapping[str, str] = field(default_factory=dict)
