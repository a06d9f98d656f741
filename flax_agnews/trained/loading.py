"""Loads a finished run from its folder: weights, body, tokenizer and settings, checked against the run's hashes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from flax_agnews.config import Config, ParallelConfig
from flax_agnews.data.tokens import Tokenizer, check_vocabulary
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import BODY
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.recorded_paths import located
from flax_agnews.runs.results import RunResult
from flax_agnews.runs.run_folder import RunFolder
from flax_agnews.strategies import StrategyLike, resolve
from flax_agnews.system.files import expanded, read_json
from flax_agnews.trained.finished_run import best_weights_notes, find_run
from flax_agnews.trained.run_source import RunSource
from flax_agnews.training.adapted_model import AdaptedModel, adapt_model, first_parameters, unshared
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.jax_setup import keep_compilations
from flax_agnews.training.memory import keep_freed


@dataclass(frozen=True)
class LoadedRun:
    """A finished run with its best weights.

    Attributes:
        output: the output folder of the experiment.
        folder: the run's folder.
        config: all settings of the experiment.
        result: the content of the run's result.json.
        model: the adapted model; `model.base` is the body that the run started from, without parameters where all of
            them trained.
        params: path -> array of every trained leaf.
        frozen: path -> array of every frozen leaf.
        classes: names of the classes, in the order of the logits.
        tokenizer: the tokenizer of the texts.
        identity: the content of identity.json: hashes of strategy, updates, body and data.
    """

    output: OutputFolder
    folder: RunFolder
    config: Config
    result: RunResult
    model: AdaptedModel
    params: Parameters
    frozen: Parameters
    classes: list[str]
    tokenizer: Tokenizer
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The run's name in messages: `STRATEGY/seed-K`."""
        return f"{self.model.strategy.name}/seed-{self.result.seed}"

    @cached_property
    def module(self) -> ClassifierModule:
        """The adapted Flax module with these weights."""
        return self.model.frame.merge({**self.frozen, **self.params})

    @property
    def trained_shapes(self) -> dict[str, tuple[int, ...]]:
        """Path -> shape of every trained leaf."""
        return {path: value.shape for path, value in self.params.items()}

    @property
    def max_length(self) -> int:
        """Most tokens of a text; longer texts are cut."""
        return min(self.config.data.max_length, self.model.base.config.n_positions - self.module.prompt_tokens)

    def exact(self) -> "LoadedRun":
        """The same run with its model computing in float32, whichever type it trained in."""
        settings = replace(self.config.model, dtype="float32", precision="highest", attention="auto")
        model = adapt_model(self.model.strategy, self.model.base, self.model.classes, settings)
        return replace(self, model=replace(model, start_values=self.model.start_values))

    @property
    def paired(self) -> bool:
        """Whether the run classifies pairs of texts."""
        return self.config.data.paired


def load_run(
    run: str | Path, strategy: StrategyLike | None = None, exact: bool = False, model: str | Path | None = None
) -> LoadedRun:
    """Loads a run, or the best run of an output folder.

    Args:
        run: folder of a run, `OUTPUT/STRATEGY/seed-K`, or of an experiment, OUTPUT.
        strategy: the strategy that trained the run, where it isn't a registered one.
        exact: compute in float32, whichever type the run computed in.
        model: hub id or directory of the body that the run started from, where it has moved; checked by hash. Not
            needed for a run in which all parameters trained.

    Raises:
        UserError: there is no such run, it isn't finished, or its body, tokenizer or strategy is missing or has
            changed since.
    """
    if strategy is not None:
        strategy = resolve(strategy)
    output, folder = find_run(expanded(str(run)))
    result, identity = folder.result, read_json(folder.path / "identity.json")
    assert result is not None
    identity = identity if isinstance(identity, dict) else {}
    config, store = output.config, Store(folder.path / "checkpoints")
    about = best_weights_notes(store, output, folder, result.best_epoch)
    _prepare_process(config.parallel)
    source = RunSource(output, folder, config, body=located(str(model)) if str(model or "") else None)
    adapted, trained = source.model(strategy, about, str(identity.get("weights")), exact)
    adapted = source.with_start_values(adapted, trained, about["classes"], str(identity.get("strategy")))
    tokenizer = source.tokenizer(about["vocabulary"])
    with source.named_errors():
        check_vocabulary(tokenizer, adapted.base.config.vocab_size, adapted.base.name)
    params, frozen = _weights(adapted, trained, store, result)
    return LoadedRun(
        output=output,
        folder=folder,
        config=config,
        result=result,
        model=adapted,
        params=params,
        frozen=frozen,
        classes=about["classes"],
        tokenizer=tokenizer,
        identity=identity,
    )


def _prepare_process(settings: ParallelConfig) -> None:
    """Applies the training's settings of freed memory and the compilation cache to this process."""
    if settings.keep_memory:
        keep_freed()
    if settings.keep_compilations:
        keep_compilations()


def _weights(
    model: AdaptedModel, trained: frozenset[str], store: Store, result: RunResult
) -> tuple[Parameters, Parameters]:
    """The best weights of the trained leaves, and the frozen leaves, on the device."""
    example: Any = {p: jax.ShapeDtypeStruct(shape, jnp.float32) for p, shape in model.shapes.items() if p in trained}
    params, frozen = store.restore_best(example, result.best_epoch), model.shapes.keys() - trained
    given = model.base.parameters or {path: value for path, value in params.items() if path.startswith(BODY)}
    body = {path: jnp.asarray(value) for path, value in given.items()}
    if frozen and frozen & unshared(model, body):  # else nothing that is drawn at random or changed is needed
        body = first_parameters(model, body, result.seed)
    return params, {path: body[path] for path in model.shapes if path in frozen}
