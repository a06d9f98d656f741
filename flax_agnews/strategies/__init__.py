"""The registry of strategies: a new one is a file here and its line below."""

from flax_agnews.strategies.adapter import ADAPTER
from flax_agnews.strategies.base import Entry, Registry, Stage, Strategy, layers
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
"""What `--strategy all` runs: the original experiment's three."""


def chosen(names: str) -> list[Entry]:
    """`all`, `every`, or names with commas between -> entries, in that order, each once."""
    groups = {"all": ALL, "every": tuple(entry.name for entry in REGISTRY)}
    wanted = [part.strip() for part in names.split(",") if part.strip()]
    expanded = [name for part in wanted for name in groups.get(part, (part,))]
    entries = [REGISTRY[name] for name in dict.fromkeys(expanded)]
    if not entries:
        REGISTRY[names]
    return entries


__all__ = ["ALL", "REGISTRY", "Entry", "Registry", "Stage", "Strategy", "chosen", "layers"]
