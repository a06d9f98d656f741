"""Fine-tunes once, by one call, and gives the trained classifier."""

import tempfile
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_agnews.config import Config, DataConfig, ModelConfig
from flax_agnews.errors import UserError
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.models.classifier import Classifier as ClassifierModule
from flax_agnews.settings.keywords import check_kind, train_settings
from flax_agnews.strategies import REGISTRY, Entry, Strategy
from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.exports import Exported
from flax_agnews.trained.loading import Parts
from flax_agnews.trained.saved_run import save_run
from flax_agnews.training import processes
from flax_agnews.training.history import History, Scores
from flax_agnews.training.state import create_state

_SET_BY = {"runs": "fit is one run; call it once for each seed=..., or compare runs by Experiment with train.runs"}


@dataclass(frozen=True)
class Fitted:
    """The result of `fit`: a finished run, and its classifier.

    Attributes:
        test: loss, accuracy, macro-F1 and confusion matrix on the test split, of the epoch with the best validation
            accuracy.
        history: losses and accuracies by epoch.
        logits: [test texts, classes] float32, of the test split.
        run: the run's settings, scores and best weights.
    """

    test: Scores
    history: History
    logits: np.ndarray = field(repr=False)
    run: Parts = field(repr=False)

    @cached_property
    def classifier(self) -> Classifier:
        """The trained classifier, with the weights of the best epoch: `result.classifier.predict(["A text."])`."""
        return Classifier.of_run(self.run)

    @property
    def model(self) -> ClassifierModule:
        """The Flax module with these weights, adapters and all."""
        return self.run.model

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return self.run.classes

    def save(self, folder: str | Path) -> Path:
        """Saves the classifier, as `Classifier.save` does: `Classifier.load(folder)` reads it again."""
        return save_run(self.run, folder)

    def export(self, to: str, folder: str | Path, *, overwrite: bool = False) -> Exported:
        """Exports the classifier to a format that other libraries load, as `Classifier.export` does."""
        return self.classifier.export(to, folder, overwrite=overwrite)


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
        **train: fields of `TrainConfig`, such as epochs=3, batch_size=32; not `runs`, since this is one run.

    Raises:
        UserError: bad input, in one line.
        Diverged: the run's numbers were not finite; where, and what to do, in one line.
    """
    check_kind("fit(strategy=", strategy, (Strategy, str), "a Strategy, or the name of a registered one")
    check_kind("fit(data=", data, (str, DataConfig, NoneType), "the name of a data set, or a DataConfig")
    check_kind("fit(model=", model, (str, ModelConfig, NoneType), "the name of a model, or a ModelConfig")
    check_kind("fit(output=", output, (str, Path, NoneType), "a folder")
    check_kind("fit(config=", config, (Config, NoneType), "a Config")
    chosen = strategy if isinstance(strategy, Strategy) else REGISTRY[strategy]
    settings = config or Config()
    given = train if seed is None else {**train, "seed": seed}
    trained = train_settings("fit", given, replace(settings.train, runs=1), _SET_BY)
    settings = replace(
        settings,
        strategy=chosen.name,
        data=DataConfig(source=data) if isinstance(data, str) else data or settings.data,
        model=ModelConfig(name=model) if isinstance(model, str) else model or settings.model,
        train=trained,
    )
    if output is not None:
        return _fit(replace(settings, output=str(output)), chosen)
    if settings.parallel.coordinator or processes.count() > 1:
        raise UserError("fit(output=None): several processes need a folder that all of them read; name one")
    with tempfile.TemporaryDirectory(prefix="flax_agnews-") as folder:
        kept = replace(settings.checkpoint, keep_final=False)  # nobody can go on from a folder that is gone
        return _fit(replace(settings, output=folder, checkpoint=kept), chosen)


def _fit(config: Config, strategy: Entry | Strategy) -> Fitted:
    seed = config.train.seed
    with processes.telling(), Experiment(config, [strategy]) as experiment:
        experiment.search()
        setup = experiment.setups[0]
        with experiment.interrupt, experiment.display:
            [run] = experiment.train(experiment.compile(setup), [seed])
        folder = experiment.folder.run(setup.strategy.name, seed)
        result, identity = processes.first_before_others(lambda: (folder.result, folder.identity))
    assert result is not None
    here = experiment.devices.local(experiment.shared)
    _, frozen = create_state(setup, here, seed)  # the original weights, whatever the program read
    if not frozen:  # everything trained: nothing needs the weights from before any more
        setup = replace(setup, base=replace(setup.base, parameters={}))
    parts = Parts(
        output=experiment.folder,
        run=folder,
        config=experiment.config,
        result=result,
        setup=setup,
        params=jax.tree.map(jnp.asarray, run.params),
        frozen=frozen,
        classes=experiment.data.classes,
        tokenizer=experiment.prepare().tokenizer,
        identity=identity or {},
    )
    return Fitted(run.test, run.history, run.logits, parts)
