"""Fine-tune GPT-2 for text classification by several strategies, and compare them fairly.

The names in `__all__` are public: documented, typed and stable; everything else is private. Each is imported when it is
first used, so that reading a report needs no JAX.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flax_agnews.system.environment import settle

__version__ = "0.1.0"

settle()  # before other libraries look up their cache folders

if TYPE_CHECKING:
    from flax_agnews.config import (
        CheckpointConfig,
        Config,
        DataConfig,
        ModelConfig,
        ParallelConfig,
        PlanConfig,
        PretrainConfig,
        ReportConfig,
        SearchConfig,
        TrackingConfig,
        TrainConfig,
    )
    from flax_agnews.errors import Diverged, Lost, UserError
    from flax_agnews.experiment.description import Description, describe
    from flax_agnews.experiment.experiment import Experiment
    from flax_agnews.experiment.library import Fitted, fit
    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.pretrained import Base, load_base
    from flax_agnews.report import write_report
    from flax_agnews.report.frames import ResultFrames, load_results
    from flax_agnews.runs.results import Results
    from flax_agnews.strategies import REGISTRY, Entry, Stage, Strategy, StrategyLike, layers
    from flax_agnews.strategies.adapter import ADAPTER as adapter
    from flax_agnews.strategies.bitfit import BITFIT as bitfit
    from flax_agnews.strategies.full import FULL as full
    from flax_agnews.strategies.gradual import GRADUAL as gradual
    from flax_agnews.strategies.head import HEAD as head
    from flax_agnews.strategies.ia3 import IA3 as ia3
    from flax_agnews.strategies.llrd import LLRD as llrd
    from flax_agnews.strategies.lora import LORA as lora
    from flax_agnews.strategies.lora_prompt import LORA_PROMPT as lora_prompt
    from flax_agnews.strategies.norms import NORMS as norms
    from flax_agnews.strategies.optim import make_optimizer
    from flax_agnews.strategies.partial import PARTIAL as partial
    from flax_agnews.strategies.plan import FROZEN, Plan
    from flax_agnews.strategies.prefix import PREFIX as prefix
    from flax_agnews.strategies.prompt import PROMPT as prompt
    from flax_agnews.system.interrupt import Stopped
    from flax_agnews.trained.classifier import Answers, Classifier
    from flax_agnews.trained.evaluation import Evaluation, evaluate
    from flax_agnews.trained.exports import Exported, export_run
    from flax_agnews.training.history import History, Scores

_HOMES = {
    "config": (
        *("CheckpointConfig", "Config", "DataConfig", "ModelConfig", "ParallelConfig", "PlanConfig"),
        *("PretrainConfig", "ReportConfig", "SearchConfig", "TrackingConfig", "TrainConfig"),
    ),
    "errors": ("Diverged", "Lost", "UserError"),
    "experiment.description": ("Description", "describe"),
    "experiment.experiment": ("Experiment",),
    "experiment.library": ("Fitted", "fit"),
    "models.classifier": ("ClassifierModule",),
    "models.pretrained": ("Base", "load_base"),
    "report": ("write_report",),
    "report.frames": ("ResultFrames", "load_results"),
    "runs.results": ("Results",),
    "strategies": ("REGISTRY", "Entry", "Stage", "Strategy", "StrategyLike", "layers"),
    "strategies.optim": ("make_optimizer",),
    "strategies.plan": ("FROZEN", "Plan"),
    "system.interrupt": ("Stopped",),
    "trained.classifier": ("Answers", "Classifier"),
    "trained.evaluation": ("Evaluation", "evaluate"),
    "trained.exports": ("Exported", "export_run"),
    "training.history": ("History", "Scores"),
}
"""Module -> the public names that it defines. All other public names are registered strategies."""

_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "FROZEN",
    "REGISTRY",
    "Answers",
    "Base",
    "CheckpointConfig",
    "Classifier",
    "ClassifierModule",
    "Config",
    "DataConfig",
    "Description",
    "Diverged",
    "Entry",
    "Evaluation",
    "Experiment",
    "Exported",
    "Fitted",
    "History",
    "Lost",
    "ModelConfig",
    "ParallelConfig",
    "Plan",
    "PlanConfig",
    "PretrainConfig",
    "ReportConfig",
    "ResultFrames",
    "Results",
    "Scores",
    "SearchConfig",
    "Stage",
    "Stopped",
    "Strategy",
    "StrategyLike",
    "TrackingConfig",
    "TrainConfig",
    "UserError",
    "adapter",
    "bitfit",
    "describe",
    "evaluate",
    "export_run",
    "fit",
    "full",
    "gradual",
    "head",
    "ia3",
    "layers",
    "llrd",
    "load_base",
    "load_results",
    "lora",
    "lora_prompt",
    "make_optimizer",
    "norms",
    "partial",
    "prefix",
    "prompt",
    "write_report",
]

if not TYPE_CHECKING:  # a type checker reads the imports above, and reports names that aren't there

    def __getattr__(name: str) -> Any:
        """Imports and returns a public name, or a registered strategy by its name."""
        if name in _HOME:
            return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        if name in __all__ or name in _added():
            return import_module(f"{__name__}.strategies").REGISTRY[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names, for completion, with the strategies that a script has added to the registry."""
    return sorted({*__all__, *_added(), "__version__"})


def _added() -> set[str]:
    """Names of the strategies in the registry; empty as long as nothing has imported it."""
    strategies = sys.modules.get(f"{__name__}.strategies")
    return {entry.name for entry in getattr(strategies, "REGISTRY", ())}


class _Face(ModuleType):
    """The package as a module that keeps `flax_agnews.evaluate` a function.

    Importing the command module of the same name would overwrite it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Face
