"""What a finished run's classifier is made of, from its folder: each part checked against what the run says of it."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import NoneType
from typing import Any

import jax
import jax.numpy as jnp
import optax

from flax_agnews.config import Config, ModelConfig
from flax_agnews.data.tokens import Tokenizer, check_vocabulary, load_tokenizer
from flax_agnews.errors import UserError, listed
from flax_agnews.models.classifier import Classifier
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.parameters import Parameters
from flax_agnews.models.pretrained import BODY, Base, load_base
from flax_agnews.runs.output_folder import OutputFolder, RunFolder
from flax_agnews.runs.recorded_paths import located
from flax_agnews.runs.results import RunResult
from flax_agnews.settings.keywords import check_kind
from flax_agnews.strategies import REGISTRY, Entry, Strategy
from flax_agnews.strategies.optim import Plan
from flax_agnews.system.files import expanded, read_json, settings_from
from flax_agnews.trained.finished_run import about_weights, find_run
from flax_agnews.training.checkpoint import Store
from flax_agnews.training.memory import keep_freed
from flax_agnews.training.parallel import keep_compilations
from flax_agnews.training.start_values import HEAD, started
from flax_agnews.training.state import Setup, create_state, set_up

_ADVICE = "Give the body as it was then: --model.name DIR (in Python: model=DIR)"


@dataclass(frozen=True)
class Parts:
    """A finished run, its best weights on their body.

    Attributes:
        output: the folder of its experiment.
        run: its own.
        config: all settings.
        result: its results.
        setup: the strategy on the model; `setup.base` is the body that it was trained from, without its parameters
            where all of them trained.
        params: path -> array, trained leaves.
        frozen: the other ones.
        classes: their names.
        tokenizer: of the texts.
        identity: hashes of its strategy, updates, body and data, as its identity.json has them.
    """

    output: OutputFolder
    run: RunFolder
    config: Config
    result: RunResult
    setup: Setup
    params: Parameters
    frozen: Parameters
    classes: list[str]
    tokenizer: Tokenizer
    identity: Mapping[str, Any]

    @property
    def name(self) -> str:
        """`STRATEGY/seed-K`, for people."""
        return f"{self.setup.strategy.name}/seed-{self.result.seed}"

    @cached_property
    def model(self) -> Classifier:
        """The module with these weights, adapters and all."""
        return self.setup.frame.merge({**self.frozen, **self.params})

    @property
    def max_length(self) -> int:
        """Tokens of a text that are read."""
        return min(self.config.data.max_length, self.setup.base.config.n_positions - self.model.prompt_tokens)

    @property
    def paired(self) -> bool:
        """Whether each text is a pair."""
        return self.config.data.paired


def load_parts(
    run: str | Path, strategy: Strategy | Entry | None = None, exact: bool = False, model: str | Path | None = None
) -> Parts:
    """The parts of a run, or of the best run of an output folder.

    Args:
        run: `OUTPUT/STRATEGY/seed-K`, or OUTPUT.
        strategy: that trained it, where it is none of the registered ones.
        exact: compute in float32, whatever the run computed in.
        model: the body that it was trained from, hub id or directory, where it isn't where it was; compared by hash.
            A run in which everything trained needs none.

    Raises:
        UserError: no such run, it isn't finished, or what it was trained with isn't there or isn't the same.
    """
    kinds = "the Strategy, or the Entry, that trained the run"
    check_kind("load(strategy=", strategy, (Strategy, Entry, NoneType), kinds)
    return _parts(*find_run(expanded(str(run))), strategy, exact, None if model is None else str(model))


def _parts(
    output: OutputFolder, run: RunFolder, strategy: Strategy | Entry | None, exact: bool, model: str | None
) -> Parts:
    config, result, identity = output.config, run.result, read_json(run.path / "identity.json")
    assert result is not None
    identity = identity if isinstance(identity, dict) else {}
    store = Store(run.path / "checkpoints")
    about = about_weights(store, output, run, result.best_epoch)
    if config.parallel.keep_memory:
        keep_freed()
    if config.parallel.keep_compilations:
        keep_compilations()
    given = located(model) if model else None
    way = replace(config.model, dtype="float32", attention="auto") if exact else config.model

    def on(base: Base) -> Setup:
        chosen = _strategy(strategy, result.strategy, config, base, run)
        return _set_up(chosen, base, about["classes"], replace(config, model=way))

    setup = _without_weights(about, config, on) if given is None else None
    if setup is None or not setup.trainable >= set(setup.frame.shapes):  # its best weights aren't all that it has
        base = _body(output, run, config, given, str(identity.get("weights")))
        known = setup is not None and setup.base.config == base.config
        setup = replace(setup, base=base) if setup and known else on(base)
    setup = _begun(run, setup, config, about["classes"], str(identity.get("strategy")))
    tokenizer = _tokenizer(output, run, config, given, about["vocabulary"])
    with _named(run.path):
        check_vocabulary(tokenizer, setup.base.config.vocab_size, setup.base.name)
    params, frozen = _weights(setup, store, result)
    return Parts(output, run, config, result, setup, params, frozen, about["classes"], tokenizer, identity)


@contextmanager
def _named(run: Path) -> Iterator[None]:
    """Says of which run the body or tokenizer is that can't be had; the advice of training's flags is left out."""
    try:
        yield
    except UserError as error:
        fault = re.sub(r"--(?=[a-z_]+\.)", "", error.fault)  # a setting of the run, no flag of the command at hand
        raise UserError(f"{run}: what it was trained from can't be had: {fault}", _ADVICE) from error


def _without_weights(about: dict[str, Any], config: Config, on: Callable[[Base], Setup]) -> Setup | None:
    """The setup on a body of which the configuration alone is known; None where a run kept none."""
    if not isinstance(fields := about.get("body"), dict):
        return None
    return on(Base(config.model.reported_name, GPT2Config.from_dict(fields, "the best weights' notes"), {}))


def _body(output: OutputFolder, run: RunFolder, config: Config, given: str | None, weights: str) -> Base:
    """The body that a run was trained from: the one that is given, the output folder's copy, or where it was.

    Raises:
        UserError: it can't be had, or has other weights than those of hash `weights`.
    """
    name = ModelConfig(name=given) if given else config.model
    if not given and (config.model.from_config is not None or config.pretrain.epochs):
        name = ModelConfig(name=str(output.path / "base"))  # nothing else gives it again
    with nullcontext() if given else _named(run.path):
        base = load_base(name, config.train.seed)
    if base.hash != weights:
        now = "" if given else " now"
        raise UserError(f"{run.path}: was trained from other weights than {base.name} has{now}", _ADVICE)
    return base


def _begun(run: RunFolder, setup: Setup, config: Config, classes: Sequence[str], fingerprint: str) -> Setup:
    """The setup with the first values that stay in the classifier, checked by the run's fingerprint.

    Those that train were given to the first update only: a finished run does without what it started from.
    """
    if config.model.start and HEAD not in setup.trainable:
        with _named(run.path):
            setup = started(setup, config, classes)
    if setup.fingerprint != (fingerprint if setup.first else fingerprint.partition(" from ")[0]):
        raise UserError(
            f"{run.path}: was trained by another {setup.strategy.name}: its labels, settings or start are not those "
            "of then"
        )
    return setup


def _tokenizer(output: OutputFolder, run: RunFolder, config: Config, given: str | None, vocabulary: str) -> Tokenizer:
    """The one of this vocabulary: the output folder's copy, beside the body that is given, or where it was.

    Raises:
        UserError: none of them is there, or none has it.
    """
    kept, named = output.path / "tokenizer", config.model.tokenizer or config.model.name
    places = [str(kept)] if kept.is_dir() else []
    places += [given] if given else []
    places += [] if config.model.trains_tokenizer else [named]
    others, faults = [], []
    for place in places or [str(kept)]:
        try:
            tokenizer = load_tokenizer(place, config.data.special_tokens)
        except UserError as error:
            faults.append(error)
            continue
        if tokenizer.vocabulary == vocabulary:
            return tokenizer
        others.append(place)
    if others:
        raise UserError(f"{run.path}: was trained with another tokenizer than there is now ({listed(others)})")
    with _named(run.path):
        raise faults[0]


def _strategy(given: Strategy | Entry | None, name: str, config: Config, base: Base, run: RunFolder) -> Strategy:
    if isinstance(given, Strategy):
        return given
    if given is None and (name in config.custom or name not in {entry.name for entry in REGISTRY}):
        raise UserError(f"{run.path}: {name} is no registered strategy; pass it: Classifier.load(run, strategy=...)")
    entry = given or REGISTRY[name]
    try:
        settings: Any = settings_from(entry.settings, config.strategies.get(name, {}))
    except TypeError as error:
        raise UserError(
            f"{run.path}: the settings of {name} are of another version of this program ({error})"
        ) from error
    return entry.build(settings, base.config)


def _set_up(strategy: Strategy, base: Base, classes: Sequence[str], config: Config) -> Setup:
    """The strategy on the model; nothing trains any more, so that there is no optimizer."""
    plan = Plan(config.train.epochs, 1, config.train.batch_size, base.config.n_layer, config.train)
    return replace(set_up(strategy, base, len(classes), plan, config.model, 1), optimizer=optax.identity())


def _weights(setup: Setup, store: Store, result: RunResult) -> tuple[Parameters, Parameters]:
    """The best trained leaves, and what was frozen, on the device."""
    shapes = {path: shape for path, shape in setup.frame.shapes.items() if path in setup.trainable}
    example: Any = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
    params = store.restore_best(example, result.best_epoch)
    body = setup.base.parameters or {path: value for path, value in params.items() if path.startswith(BODY)}
    shared = {path: jnp.asarray(value) for path, value in body.items()}
    return params, create_state(setup, shared, result.seed)[1]
