"""Fine-tune GPT-2 for text classification by several strategies, and compare them fairly.

The public face: what is listed here is documented, typed and stable; the rest is private. Names are loaded when they
are first used, so that reading a report needs no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flax_agnews.system.environment import settle

__version__ = "0.1.0"

settle()  # before any library looks for its folders

if TYPE_CHECKING:
    from flax_agnews.config import Config, DataConfig, ModelConfig, PretrainConfig, SearchConfig, TrainConfig
    from flax_agnews.errors import Diverged, UserError
    from flax_agnews.experiment.description import Description, describe
    from flax_agnews.experiment.experiment import Experiment
    from flax_agnews.experiment.library import Fitted, fit
    from flax_agnews.models.classifier import ClassifierModule
    from flax_agnews.models.pretrained import Base, load_base
    from flax_agnews.report import write_report
    from flax_agnews.strategies import REGISTRY, Entry, Stage, Strategy, layers
    from flax_agnews.strategies.optim import Plan, make_optimizer
    from flax_agnews.trained.classifier import Answers, Classifier
    from flax_agnews.trained.exports import Exported, export_run

_HOMES = {
    "config": ("Config", "DataConfig", "ModelConfig", "PretrainConfig", "SearchConfig", "TrainConfig"),
    "errors": ("Diverged", "UserError"),
    "experiment.experiment": ("Experiment",),
    "trained.exports": ("Exported", "export_run"),
    "experiment.library": ("Fitted", "fit"),
    "experiment.description": ("Description", "describe"),
    "models.classifier": ("ClassifierModule",),
    "models.pretrained": ("Base", "load_base"),
    "strategies.optim": ("Plan", "make_optimizer"),
    "report": ("write_report",),
    "strategies": ("REGISTRY", "Entry", "Stage", "Strategy", "layers"),
    "trained.classifier": ("Answers", "Classifier"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "REGISTRY",
    "Answers",
    "Base",
    "Classifier",
    "ClassifierModule",
    "Config",
    "DataConfig",
    "Description",
    "Diverged",
    "Entry",
    "Experiment",
    "Exported",
    "Fitted",
    "ModelConfig",
    "Plan",
    "PretrainConfig",
    "SearchConfig",
    "Stage",
    "Strategy",
    "TrainConfig",
    "UserError",
    "describe",
    "export_run",
    "fit",
    "layers",
    "load_base",
    "make_optimizer",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
