"""`fit`: fine-tunes one strategy from one seed in one call, and returns the trained classifier."""

import tempfile
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from flax_agnews.config import Config, DataConfig, ModelConfig, TrainConfig
from flax_agnews.errors import UserError, flag
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.settings.keywords import check_kind, train_settings
from flax_agnews.strategies import Entry, Strategy, StrategyLike, resolve
from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.exports import Exported, export_loaded
from flax_agnews.trained.loading import LoadedRun
from flax_agnews.trained.saved_run import save_run
from flax_agnews.training.history import History, Scores
from flax_agnews.training.processes import current_team, sharing_failures
from flax_agnews.training.state import create_state

_ARGUMENTS = ("strategy", "data", "model", "seed", "output", "config")
_SET_BY = {"runs": "fit is one run; call it once for each seed=..., or compare runs by Experiment with train.runs"}


@dataclass(frozen=True)
class Fitted:
    """The result of `fit`: a finished run, and its classifier.

    Attributes:
        test: loss, accuracy, macro-F1 and confusion matrix on the test split, with the weights of the epoch that has
            the best validation accuracy.
        history: losses and accuracies by epoch.
        logits: class scores of the test texts with these weights, [test texts, classes], float32.
        run: the run's settings, scores and best weights.
    """

    test: Scores
    history: History
    logits: np.ndarray = field(repr=False)
    run: LoadedRun = field(repr=False)

    @cached_property
    def classifier(self) -> Classifier:
        """The trained classifier with the best epoch's weights: `result.classifier.predict(["A text."])`."""
        return Classifier.of_run(self.run)

    @property
    def model(self) -> ClassifierModule:
        """The trained Flax module with the best epoch's weights, adapters included."""
        return self.run.module

    @property
    def classes(self) -> list[str]:
        """Names of the classes, in the order of the logits."""
        return self.run.classes

    def save(self, folder: str | Path) -> Path:
        """Saves the classifier, as `Classifier.save` does; `Classifier.load(folder)` loads it."""
        return save_run(self.run, folder)

    def export(self, to: str, folder: str | Path, *, overwrite: bool = False) -> Exported:
        """Exports the classifier to a format that other libraries load, as `Classifier.export` does."""
        return export_loaded(self.run, to, folder, overwrite=overwrite)


def fit(
    strategy: StrategyLike,
    data: str | DataConfig | None = None,
    model: str | ModelConfig | None = None,
    seed: int | None = None,
    output: str | Path | None = None,
    config: Config | None = None,
    **train: Any,
) -> Fitted:
    """Fine-tunes GPT-2 by one strategy from one seed, and tests it.

    Args:
        strategy: name of a registered strategy ("lora"), an entry with settings (`lora(rank=4)`), or your own
            `Strategy`.
        data: hub data set, local folder or file, `builtin`, or all data settings; by default `config.data`.
        model: hub id, directory, or all model settings; by default `config.model`.
        seed: seed of the new head and adapter, the order of the texts, and dropout; by default `config.train.seed`.
        output: folder for checkpoints and metrics, from which the same call resumes; by default a temporary folder.
        config: all other settings; by default `Config()`: AG News, GPT-2 from the hub, seed 42.
        **train: fields of `TrainConfig`, such as epochs=3, batch_size=32; but not `runs`, since this is one run.

    Raises:
        UserError: bad input, or an unknown argument; the message names the nearest one.
        Diverged: the run's numbers were not finite; the message says where, and what to change.
        Stopped: SIGINT or SIGTERM asked to stop, and the run is saved; the same call with this `output` resumes.
        Lost: another process of the same training has ended or can't be reached.
    """
    chosen = resolve(strategy)
    check_kind("fit(data=", data, (str, DataConfig, NoneType), "the name of a data set, or a DataConfig")
    check_kind("fit(model=", model, (str, ModelConfig, NoneType), "the name of a model, or a ModelConfig")
    check_kind("fit(output=", output, (str, Path, NoneType), "a folder")
    check_kind("fit(config=", config, (Config, NoneType), "a Config")
    settings = config or Config()
    given = train if seed is None else {**train, "seed": seed}
    set_by = {**_of_strategy(chosen), **_SET_BY}
    trained = train_settings("fit", given, replace(settings.train, runs=1), set_by, _ARGUMENTS)
    settings = replace(
        settings,
        strategy=chosen.name,
        data=DataConfig(source=data) if isinstance(data, str) else data or settings.data,
        model=ModelConfig(name=model) if isinstance(model, str) else model or settings.model,
        train=trained,
    )
    if settings.parallel.engine == "ray":
        raise UserError(f"fit: trains one run, here; leave out {flag('parallel.engine')} ray, which is for comparisons")
    if output is not None:
        return _fit(replace(settings, output=str(output)), chosen)
    if settings.parallel.coordinator or current_team().count > 1:
        raise UserError("fit(output=None): several processes need a folder that all of them read; name one")
    with tempfile.TemporaryDirectory(prefix="flax_agnews-") as folder:
        kept = replace(settings.checkpoint, keep_final=False)  # a deleted folder can't be resumed
        return _fit(replace(settings, output=folder, checkpoint=kept), chosen)


def _of_strategy(strategy: Entry | Strategy) -> dict[str, str]:
    """Setting of the strategy -> advice where to give it, for errors about `fit`'s keywords."""
    if isinstance(strategy, Strategy):
        return {}
    train = {setting.name for setting in fields(TrainConfig)}
    own = [setting.name for setting in fields(strategy.settings) if setting.name not in train]
    return {name: f"is a setting of the strategy: fit({strategy.name}({name}=...), ...)" for name in own}


def _fit(config: Config, strategy: Entry | Strategy) -> Fitted:
    seed = config.train.seed
    with sharing_failures(), Experiment(config, [strategy]) as experiment:
        experiment.search()
        setup = experiment.setups[0]
        with experiment.interrupt, experiment.display:
            [run] = experiment.train(experiment.compile(setup), [seed])
        folder = experiment.folder.run(setup.name, seed)
        result, identity = current_team().first_before_others(lambda: (folder.result, folder.identity))
    assert result is not None
    here = experiment.devices.local(experiment.shared)
    _, frozen = create_state(setup, here, seed)  # in float32, not the program's copies in the compute type
    model = setup.model
    if not frozen:  # everything trained: the original weights aren't needed
        model = replace(model, base=replace(model.base, parameters={}))
    loaded = LoadedRun(
        output=experiment.folder,
        folder=folder,
        config=experiment.config,
        result=result,
        model=model,
        params=jax.tree.map(jnp.asarray, run.params),
        frozen=frozen,
        classes=experiment.data.classes,
        tokenizer=experiment.prepare().tokenizer,
        identity=identity or {},
    )
    return Fitted(run.test, run.history, run.logits, loaded)
