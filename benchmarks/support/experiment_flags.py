"""Command lines of the experiments that are measured."""

from typing import Any

from benchmarks.support.trial import SEED, Trial
from benchmarks.support.workers import Settings

TRIAL_BATCHES = 20
"""Number of batches of training texts that a trial reads, unless it sets the number of rows."""


def experiment_flags(settings: Settings, strategy: str, precision: str) -> list[str]:
    """An experiment's command line; settings that aren't in it have their defaults."""
    chosen: dict[str, Any] = {
        "strategy": strategy,
        "model.name": settings.model,
        "model.tokenizer": settings.tokenizer,
        "model.dtype": precision,
        "model.dropout": 0,
        "data.source": settings.data,
        "data.max_length": settings.max_length,
        "data.limit_train": settings.limit_train,
        "data.limit_test": settings.texts // 10,
        "train.batch_size": settings.batch_size,
        "train.seed": settings.seed,
        "train.shapes": settings.shapes,
        "parallel.devices": 1,
        "parallel.keep_memory": str(settings.allocator).lower(),
        "checkpoint.enabled": "false",
        "tracking.wandb": "disabled",
    }
    if settings.micro_batch_tokens:
        chosen["train.micro_batch_tokens"] = settings.micro_batch_tokens
    if strategy == "partial":
        chosen["train.cache_frozen"] = "on"
    return _as_flags(chosen)


def trial_flags(trial: Trial, folder: str) -> list[str]:
    """A trial's command line; its model has random weights."""
    given = (trial.tokenizer, trial.data, trial.batch_size)
    settings = Settings(
        "",
        *given,
        seed=SEED,
        max_length=trial.max_length,
        shapes=trial.shapes,
        micro_batch_tokens=trial.micro_batch_tokens,
    )
    chosen: dict[str, Any] = {
        "output": folder,
        "model.from_config": trial.json,
        "model.dropout": trial.dropout,
        "model.attention": trial.attention,
        "data.limit_train": trial.rows or int(TRIAL_BATCHES * trial.batch_size / 0.9) + 1,
        "data.limit_test": 64,
        "train.runs": trial.runs,
        "train.parallel_seeds": trial.seeds,
    }
    return [*experiment_flags(settings, trial.strategy, trial.dtype), *_as_flags(chosen)]


def _as_flags(chosen: dict[str, Any]) -> list[str]:
    return [part for name, value in chosen.items() for part in (f"--{name}", str(value))]
