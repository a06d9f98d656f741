"""Makes the records of results.json from an experiment's data, model, devices and finished runs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import jax

from flax_agnews import __version__
from flax_agnews.config import Config, ModelConfig
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Data
from flax_agnews.metrics.scores import probabilities
from flax_agnews.models.precision import product_type_on
from flax_agnews.models.pretrained import Base
from flax_agnews.runs.output_folder import by_name, config_dict
from flax_agnews.runs.predictions import Predictions, SplitPredictions
from flax_agnews.runs.results import DataResult, ModelResult, PretrainResult, Results, RunCost, RunResult
from flax_agnews.system.text import counted
from flax_agnews.training.adaptation import Adaptation
from flax_agnews.training.flops import run_flops
from flax_agnews.training.loop import TrainedRun
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import Program
from flax_agnews.training.state import Setup


def run_result(
    program: Program, seed: int, run: TrainedRun, adaptation: Adaptation | None, planned_epochs: int, custom: bool
) -> RunResult:
    """The content of a finished run's result.json.

    Args:
        program: the compiled strategy.
        seed: seed of the run.
        run: history and test scores of the run.
        adaptation: the result of language modelling before the runs, if there was any.
        planned_epochs: `train.epochs`.
        custom: whether the strategy is not a registered one.
    """
    history, setup = run.history, program.setup
    return RunResult(
        strategy=setup.name,
        seed=seed,
        test_accuracy=run.test.accuracy,
        test_loss=run.test.loss,
        test_macro_f1=run.test.macro_f1,
        test_confusion=run.test.confusion,
        train_accuracy=history.train_accuracy,
        train_loss=list(history.train_loss),
        val_accuracy=history.val_accuracy,
        val_loss=list(history.val_loss),
        val_macro_f1=history.val_macro_f1,
        best_epoch=history.best_epoch,
        planned_epochs=planned_epochs,
        stopped_early=len(history.val_accuracy) < planned_epochs,
        skipped_updates=sum(history.skipped),
        trainable_parameters=setup.trainable_parameters,
        total_parameters=setup.model.total_parameters,
        settings=dict(setup.model.strategy.settings),
        rate_factor=setup.factor,
        custom=custom,
        cost=RunCost(
            train_seconds=history.train_seconds,
            compile_seconds=program.compile_seconds,
            cache_seconds=program.cache_seconds,
            pretrain_seconds=adaptation.seconds if adaptation else 0.0,
            tokens_per_second=history.tokens / max(history.train_seconds, 1e-9),
            peak_memory_bytes=history.peak_memory_bytes,
            tokens=history.tokens,
            seconds_to_95=history.seconds_to(0.95),
            flop=run_flops(setup, program.by_stage, program.lengths, len(history.val_accuracy)),
            optimizer_bytes=setup.optimizer_bytes,
            kept_bytes=setup.kept_bytes,
        ),
    )


def run_predictions(data: Data, run: TrainedRun) -> Predictions:
    """A finished run's predictions for the validation and test texts."""
    pairs = (("validation", data.validation, run.val_logits), ("test", data.test, run.logits))
    splits = {name: SplitPredictions(split.hash, split.labels, probabilities(found)) for name, split, found in pairs}
    return Predictions(data.classes, splits)


def header(
    config: Config,
    data: Data,
    batches: TrainBatches,
    base: Base,
    adaptation: Adaptation | None,
    devices: Devices,
) -> Results:
    """The content of `results.json` without its `runs`."""
    return Results(
        flax_agnews=__version__,
        data=data_result(data, batches),
        model=model_result(base, config.model, devices),
        pretrain=PretrainResult(epochs=config.pretrain.epochs, loss=list(adaptation.loss)) if adaptation else None,
        environment=environment(devices),
        settings=asdict(config.train),
        diverged=[],
        runs=[],
    )


def data_result(data: Data, batches: TrainBatches) -> DataResult:
    """The data set: sizes of its splits, classes, text lengths, and share of padding in the batches."""
    lengths = data.train.tokens.lengths
    return DataResult(
        source=data.name,
        notes=list(data.notes),
        classes=data.classes,
        class_texts=data.class_texts.tolist(),
        train=len(data.train),
        validation=len(data.validation),
        test=len(data.test),
        tokens_per_text=float(lengths.mean()),
        longest=int(lengths.max()),
        truncated=data.truncated,
        majority_accuracy=data.majority_accuracy,
        padding_share=batches.waste,
        hash=data.hash,
    )


def model_result(base: Base, config: ModelConfig, devices: Devices) -> ModelResult:
    """The body that every run starts from: name, sizes, types and hash."""
    return ModelResult(
        name=base.name,
        layers=base.config.n_layer,
        width=base.config.n_embd,
        parameters=sum(value.size for value in base.parameters.values()),
        dtype=config.dtype,
        precision=config.precision,
        products=products(config, devices),
        base=base.hash,
        start=config.start,
    )


def products(config: ModelConfig, devices: Devices) -> str:
    """The type to which operands of the model's products are rounded on these devices."""
    exact = config.dtype != "float32"  # of that type already
    return config.dtype if exact else product_type_on(devices.devices[0], config.precision)


def facts(
    config: Config, setups: Sequence[Setup], updates: Mapping[str, str], data: Data, base: Base
) -> dict[str, Any]:
    """Versions, settings and hashes that must be the same in all processes of a training.

    Args:
        config: all settings.
        setups: the strategies on the model.
        updates: name of a strategy -> hash of the updates that it makes.
        data, base: the texts and the body, which are compared by hash.
    """
    settings = {k: v for k, v in by_name(config_dict(config)).items() if not k.startswith("tracking.")}
    strategies = {f"strategy {setup.name}": setup.model.fingerprint for setup in setups}
    strategies |= {f"updates of {name}": found for name, found in updates.items()}
    versions = {"flax_agnews": __version__, "JAX": jax.__version__}
    return {**versions, **settings, **strategies, "texts": data.hash, "weights": base.hash}


def environment(devices: Devices) -> dict[str, str]:
    """Versions, devices and machine, by name."""
    first, several = devices.devices[0], f" in {counted(devices.team.count, 'process')}" if devices.several else ""
    return {
        "jax": jax.__version__,
        "python": platform.python_version(),
        "devices": f"{len(devices)} x {getattr(first, 'device_kind', first.platform)}{several}",
        "machine": f"{platform.system()} {platform.machine()}, {counted(os.cpu_count() or 1, 'core')}",
    }
