"""The library's one call: fine-tune once, and have the classifier."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_agnews.config import Config, DataConfig, ModelConfig, TrainConfig
from flax_agnews.errors import UserError, nearest
from flax_agnews.experiment import Experiment
from flax_agnews.models.classifier import Classifier
from flax_agnews.strategies import REGISTRY, Strategy
from flax_agnews.training import processes
from flax_agnews.training.history import History, Scores
from flax_agnews.training.state import create_state


@dataclass(frozen=True)
class Fitted:
    """A finished run.

    Attributes:
        test: loss, accuracy, macro-F1 and confusion matrix of the best-on-validation weights on the test split.
        history: losses and accuracies by epoch.
        model: the classifier with these weights.
        logits: [test texts, classes] float32.
        classes: their names.
    """

    test: Scores
    history: History
    model: Classifier
    logits: np.ndarray = field(repr=False)
    classes: list[str]


def fit(
    strategy: Strategy | str,
    data: str | DataConfig | None = None,
    model: str | ModelConfig | None = None,
    seed: int | None = None,
    output: str | Path | None = None,
    config: Config | None = None,
    **train: Any,
) -> Fitted:
    """Fine-tunes GPT-2 by one strategy from one seed.

    Args:
        strategy: one of your own, or the name of a registered one.
        data: a hub data set, a local folder or file, `builtin`, or all data settings; by default the config's.
        model: a hub id, a directory, or all model settings; by default the config's.
        seed: of head, adapter, batches and dropout; by default the config's.
        output: folder for checkpoints and metrics, from which an interrupted call resumes; a temporary one by default.
        config: settings to start from, instead of the defaults: AG News and GPT-2 from the hub, seed 42.
        **train: fields of `TrainConfig`, such as epochs=3, batch_size=32.

    Raises:
        UserError: bad input, in one line.
        Diverged: the run's numbers were not finite; where, and what to do, in one line.
    """
    chosen = strategy if isinstance(strategy, Strategy) else REGISTRY[strategy]
    _check_names(train)
    settings = config or Config()
    seed = settings.train.seed if seed is None else seed
    settings = replace(
        settings,
        strategy=chosen.name,
        data=DataConfig(source=data) if isinstance(data, str) else data or settings.data,
        model=ModelConfig(name=model) if isinstance(model, str) else model or settings.model,
        train=replace(settings.train, **{**train, "seed": seed, "runs": 1}),
        strategies=dict(settings.strategies),
    )
    if output is not None:
        return _fit(replace(settings, output=str(output)), chosen, seed)
    if settings.parallel.coordinator or processes.count() > 1:
        raise UserError("fit(output=None): several processes need a folder that all of them read; name one")
    with tempfile.TemporaryDirectory(prefix="flax_agnews-") as folder:
        return _fit(replace(settings, output=folder), chosen, seed)


def _fit(config: Config, strategy: Any, seed: int) -> Fitted:
    with processes.telling(), Experiment(config, [strategy]) as experiment:
        experiment.search()
        setup = experiment.setups[0]
        with experiment.interrupt, experiment.display:
            [run] = experiment.train(experiment.compile(setup), [seed])
    here = experiment.devices.local(experiment.shared)
    _, frozen = create_state(setup, here, seed)  # the original weights, whatever the program read
    model = setup.frame.merge({**frozen, **jax.tree.map(jnp.asarray, run.params)})
    return Fitted(run.test, run.history, model, run.logits, experiment.data.classes)


def _check_names(train: Mapping[str, Any]) -> None:
    known = [f.name for f in fields(TrainConfig)]
    for name in train:
        if name not in known:
            raise UserError(f"fit({name}=...): no such training setting.{nearest(name, known)}")
