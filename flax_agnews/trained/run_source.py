"""Finds the strategy, body, start values and tokenizer of a finished run, and checks that they haven't changed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from flax_agnews.config import Config, ModelConfig
from flax_agnews.data.tokens import Tokenizer, load_tokenizer
from flax_agnews.errors import UserError, flag, listed
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.runs.run_folder import RunFolder
from flax_agnews.strategies import REGISTRY, Strategy, StrategyLike, resolve
from flax_agnews.strategies.optim import Plan
from flax_agnews.system.files import settings_from
from flax_agnews.training.adapted_model import AdaptedModel, adapt_model, trained_parameters
from flax_agnews.training.start_values import HEAD, start_values

_ADVICE = f"Give the same body: {flag('model.name')} DIR (in Python: model=DIR)"


@dataclass(frozen=True)
class RunSource:
    """Finds strategy, body, start values and tokenizer of one finished run, and checks each.

    Attributes:
        output: the output folder of the experiment.
        folder: the run's folder.
        config: all settings of the experiment.
        body: hub id or directory of the body, given by the caller; None: where it was in training.
    """

    output: OutputFolder
    folder: RunFolder
    config: Config
    body: str | None

    @contextmanager
    def named_errors(self) -> Iterator[None]:
        """Rewrites errors about the body or tokenizer: names the run, without the advice about training's flags."""
        try:
            yield
        except UserError as error:
            fault = re.sub(r"--(?=[a-z_]+\.)", "", error.fault)  # a setting of the run, not a flag of this command
            raise UserError(f"{self.folder.path}: its body or tokenizer can't be loaded: {fault}", _ADVICE) from error

    def model(
        self, strategy: StrategyLike | None, about: Mapping[str, Any], weights: str, exact: bool
    ) -> tuple[AdaptedModel, frozenset[str]]:
        """The adapted model, and the paths of its trained parameters.

        The body is loaded only where the best weights lack some of the model's parameters.

        Args:
            strategy: the strategy that trained the run, where it isn't a registered one.
            about: notes stored with the best weights.
            weights: hash of the body's weights.
            exact: compute in float32.
        """
        settings, train = self.config.model, self.config.train
        if exact:
            settings = replace(settings, dtype="float32", precision="highest", attention="auto")

        def on(base: Base) -> tuple[AdaptedModel, frozenset[str]]:
            model = adapt_model(self.strategy(strategy, base.config), base, len(about["classes"]), settings)
            plan = Plan(train.epochs, 1, train.batch_size, base.config.n_layer, train)
            return model, trained_parameters(model, plan).paths

        known = None
        if self.body is None and isinstance(fields := about.get("body"), dict):
            config = GPT2Config.from_dict(fields, "the best weights' notes")
            known, trained = on(Base(self.config.model.reported_name, config, {}))
            if trained >= set(known.shapes):
                return known, trained
        base = self.load_body(weights)
        if known is not None and known.base.config == base.config:
            return replace(known, base=base), trained
        return on(base)

    def strategy(self, given: StrategyLike | None, body: GPT2Config) -> Strategy:
        """The strategy that trained the run: the given one, or the registered one with the run's settings."""
        path, name = self.folder.path, self.folder.path.parent.name
        if given is None and (name in self.config.custom or name not in {entry.name for entry in REGISTRY}):
            raise UserError(f"{path}: {name} is no registered strategy; pass it: Classifier.load(run, strategy=...)")
        entry = resolve(name if given is None else given)
        if isinstance(entry, Strategy):
            return entry
        try:
            settings: Any = entry.settings_given or settings_from(entry.settings, self.config.strategies.get(name, {}))
        except TypeError as error:
            raise UserError(
                f"{path}: the settings of {name} are of another version of this program ({error})"
            ) from error
        return entry.build(settings, body)

    def load_body(self, weights: str) -> Base:
        """Loads the body that the run started from: the caller's, the output folder's copy, or the original.

        Raises:
            UserError: it can't be loaded, or the hash of its weights isn't `weights`.
        """
        config = self.config
        name = ModelConfig(name=self.body) if self.body else config.model
        if not self.body and (config.model.from_config is not None or config.pretrain.epochs):
            name = ModelConfig(name=str(self.output.path / "base"))  # the only copy
        with nullcontext() if self.body else self.named_errors():
            base = load_base(name, config.train.seed)
        if base.hash != weights:
            now = "" if self.body else " now"
            raise UserError(f"{self.folder.path}: was trained from other weights than {base.name} has{now}", _ADVICE)
        return base

    def with_start_values(
        self, model: AdaptedModel, trained: frozenset[str], classes: Sequence[str], fingerprint: str
    ) -> AdaptedModel:
        """The model with the frozen start values; a `UserError` where its fingerprint isn't the run's.

        Start values of trained parameters aren't needed: the best weights replace them.
        """
        if (name := self.config.model.start) and HEAD not in trained:
            shapes = {path: shape for path, shape in model.shapes.items() if path in trained}
            adapts = self.config.pretrain.epochs > 0
            with self.named_errors():
                model = replace(model, start_values=start_values(model, shapes, name, classes, changed_body=adapts))
        if model.fingerprint != (fingerprint if model.start_values else fingerprint.partition(" from ")[0]):
            raise UserError(
                f"{self.folder.path}: was trained by another {model.strategy.name}: its labels, settings or start "
                "values have changed since"
            )
        return model

    def tokenizer(self, vocabulary: str) -> Tokenizer:
        """Loads the run's tokenizer: the output folder's copy, the one beside the caller's body, or the original.

        Args:
            vocabulary: hash of its vocabulary.

        Raises:
            UserError: none of them exists, or none has this vocabulary.
        """
        kept, config = self.output.path / "tokenizer", self.config.model
        places = [str(kept)] if kept.is_dir() else []
        places += [self.body] if self.body else []
        places += [] if config.trains_tokenizer else [config.tokenizer or config.name]
        others, faults = [], []
        for place in places or [str(kept)]:
            try:
                tokenizer = load_tokenizer(place, self.config.data.special_tokens)
            except UserError as error:
                faults.append(error)
                continue
            if tokenizer.vocabulary == vocabulary:
                return tokenizer
            others.append(place)
        if others:
            fault = f"was trained with another tokenizer than there is now ({listed(others)})"
            raise UserError(f"{self.folder.path}: {fault}")
        with self.named_errors():
            raise faults[0]
