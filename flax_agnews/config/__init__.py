"""The shared settings: name, type, default and meaning of each. Each strategy defines a section of its own."""

from dataclasses import dataclass, field
from typing import Any

from flax_agnews.config.inputs import DataConfig, Fields, ModelConfig
from flax_agnews.config.outputs import CheckpointConfig, ReportConfig, TrackingConfig
from flax_agnews.config.training import ParallelConfig, PlanConfig, PretrainConfig, SearchConfig, TrainConfig

__all__ = [
    "CheckpointConfig",
    "Config",
    "DataConfig",
    "Fields",
    "ModelConfig",
    "ParallelConfig",
    "PlanConfig",
    "PretrainConfig",
    "ReportConfig",
    "SearchConfig",
    "TrackingConfig",
    "TrainConfig",
]


@dataclass
class Config:
    """All settings of an experiment; one section for each of the imported classes.

    Attributes:
        strategy: Strategies to compare, separated by commas; `all` is full, prompt and partial, `every` is all
            registered ones. `Experiment` writes the names of those that it is given.
        output: Output folder.
        strategies: Name of a registered strategy -> its settings.
        custom: Names of strategies that a script defines itself; set by `Experiment`.
    """

    strategy: str = "all"
    output: str = "runs/ag_news"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    plan: PlanConfig = field(default_factory=PlanConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    strategies: dict[str, Any] = field(default_factory=dict)
    custom: list[str] = field(default_factory=list)
