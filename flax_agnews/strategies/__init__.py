"""The registry of strategies. To add one, write a file in this folder and list its entry in `REGISTRY`."""

from dataclasses import is_dataclass, replace

from flax_agnews.errors import UserError, shown
from flax_agnews.strategies.adapter import ADAPTER
from flax_agnews.strategies.base import Entry, Registry, Settings, Stage, Strategy, StrategyLike, layers
from flax_agnews.strategies.bitfit import BITFIT
from flax_agnews.strategies.full import FULL
from flax_agnews.strategies.gradual import GRADUAL
from flax_agnews.strategies.head import HEAD
from flax_agnews.strategies.ia3 import IA3
from flax_agnews.strategies.llrd import LLRD
from flax_agnews.strategies.lora import LORA
from flax_agnews.strategies.lora_prompt import LORA_PROMPT
from flax_agnews.strategies.norms import NORMS
from flax_agnews.strategies.partial import PARTIAL
from flax_agnews.strategies.prefix import PREFIX
from flax_agnews.strategies.prompt import PROMPT

REGISTRY = Registry(
    FULL,
    PROMPT,
    PARTIAL,
    HEAD,
    BITFIT,
    NORMS,
    LLRD,
    GRADUAL,
    LORA,
    IA3,
    ADAPTER,
    PREFIX,
    LORA_PROMPT,
)

ALL = ("full", "prompt", "partial")
"""The strategies that `--strategy all` runs: the original experiment's three."""


def chosen(names: str) -> list[Entry]:
    """The entries that `--strategy` names: `all`, `every`, or names separated by commas; in that order, each once."""
    groups = {"all": ALL, "every": tuple(entry.name for entry in REGISTRY)}
    wanted = [part.strip() for part in names.split(",") if part.strip()]
    expanded = [name for part in wanted for name in groups.get(part, (part,))]
    entries = [REGISTRY[name] for name in dict.fromkeys(expanded)]
    if not entries:
        REGISTRY[names]
    return entries


def resolve(strategy: StrategyLike) -> Entry | Strategy:
    """Turns anything that names a strategy into an `Entry`, with the given settings if there are any, or a `Strategy`.

    Args:
        strategy: a registered name (`"lora"`), an entry (`lora`, `lora(rank=4)`), settings (`LoraSettings(rank=4)`), or
            a `Strategy`.

    Raises:
        UserError: the name is unknown (the nearest one is suggested), or the value is of another type.
    """
    if isinstance(strategy, Entry | Strategy):
        return strategy
    if isinstance(strategy, str):
        return REGISTRY[strategy]
    if is_dataclass(strategy):
        for entry in REGISTRY:
            if entry.settings is type(strategy):
                return replace(entry, settings_given=strategy)
    kinds = "a registered name, an entry such as lora(rank=4), settings such as LoraSettings(rank=4), or a Strategy"
    raise UserError(f"strategy {shown(repr(strategy))}: must be {kinds}")


__all__ = [
    "ALL",
    "REGISTRY",
    "Entry",
    "Registry",
    "Settings",
    "Stage",
    "Strategy",
    "StrategyLike",
    "chosen",
    "layers",
    "resolve",
]
