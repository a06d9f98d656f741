"""Stores bodies adapted by language modelling, under a hash of the texts, weights and settings that they come from."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flax_agnews.config import Config, ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.batches import TrainBatches
from flax_agnews.data.encoded import Split
from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.system.files import read_json, write_json
from flax_agnews.training.batch_plans import plan_batches
from flax_agnews.training.parallel import Devices

_SHAPES = 2  # most compiled shapes: adaptation is so short that compiling more takes longer than padding


@dataclass(frozen=True)
class Adaptation:
    """The record of a language-model adaptation, without the weights.

    Attributes:
        key: SHA-256 of texts, weights and settings; the same key means the same result.
        hash: SHA-256 of the adapted weights.
        loss: mean loss of each epoch, in nats per token.
        seconds: time that it took, compilation included.
    """

    key: str
    hash: str
    loss: list[float]
    seconds: float


@dataclass(frozen=True)
class AdaptationTask:
    """Everything that determines an adapted body.

    Attributes:
        base: the body to start from; not changed.
        train: the training texts; labels aren't read.
        end_of_text: id of the token that ends every text.
        config: settings of language modelling.
        model: settings of the model; only dtype, precision and dropout are used.
        shared: settings of strategies' training, of which the function `settings` takes some.
        devices: the devices that share every batch.
        seed: seed of batches and dropout.
    """

    base: Base
    train: Split
    end_of_text: int
    config: PretrainConfig
    model: ModelConfig
    shared: TrainConfig
    devices: Devices
    seed: int

    @classmethod
    def of(cls, config: Config, base: Base, train: Split, end_of_text: int, devices: Devices) -> "AdaptationTask":
        """Makes the task of an experiment's settings."""
        return cls(base, train, end_of_text, config.pretrain, config.model, config.train, devices, config.train.seed)

    @property
    def settings(self) -> TrainConfig:
        """The training settings of language modelling."""
        return settings(self.config, self.shared)

    def batches(self, how: TrainConfig) -> TrainBatches:
        """The training batches under given training settings."""
        return plan_batches(self.train, how, [self.seed], self.devices)

    @property
    def key(self) -> str:
        """SHA-256 of everything that determines the adapted weights.

        Includes the compiled shapes where they differ from those of the default settings: batches that are split or
        padded differently are summed in another order.
        """
        usual = settings(self.config, TrainConfig())
        if self.settings == usual:
            return self.key_of_settings
        shapes, without = (self.batches(how).shapes for how in (self.settings, usual))
        return self._key("" if shapes == without else json.dumps(shapes))

    @property
    def key_of_settings(self) -> str:
        """The key without compiled shapes, as earlier versions computed it."""
        return self._key("")

    def _key(self, shapes: str) -> str:
        model = self.model
        facts = [asdict(self.config), model.dtype, model.dropout, self.end_of_text, self.seed, self.base.hash]
        facts += [model.precision] if model.precision != "default" else []  # earlier versions had no other
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(self.train.tokens.ids.tobytes())
        digest.update(self.train.tokens.offsets.tobytes())
        digest.update(shapes.encode())
        return digest.hexdigest()


def settings(config: PretrainConfig, shared: TrainConfig) -> TrainConfig:
    """The training settings of language modelling.

    Settings in `train` of how a step is computed apply here too. Those of how strategies learn don't (decay, schedule,
    clipping, what to do about non-finite numbers): language modelling has its own recipe, so that the adapted body
    stays the same, and isn't computed again, while a user tries settings of the comparison.
    """
    return TrainConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        schedule="cosine",
        warmup_fraction=0.05,
        clip_norm=1.0,
        micro_batch_tokens=shared.micro_batch_tokens,
        shapes=_SHAPES if shared.shapes == "auto" else min(_SHAPES, shared.shapes),
    )


def kept(base: Base, key: str, folders: Sequence[Path]) -> tuple[Base, Adaptation] | None:
    """Reads the adapted body of a key from the first folder that has it undamaged; None if none has."""
    for folder in folders:
        try:
            adaptation = Adaptation(**json.loads((folder / "adaptation.json").read_text("utf-8")))
            if adaptation.key != key:
                continue
            loaded = load_base(ModelConfig(name=str(folder.absolute())))
        except (OSError, ValueError, TypeError, UserError):
            continue
        if loaded.hash == adaptation.hash:
            return renewed(base, loaded.parameters), adaptation
    return None


def is_kept(adaptation: Adaptation, folder: Path) -> bool:
    """Whether a folder has this adapted body, by the JSON that is written last."""
    note = folder / "adaptation.json"
    return note.is_file() and read_json(note) == asdict(adaptation)


def keep(base: Base, adaptation: Adaptation, folder: Path) -> None:
    """Writes an adapted body into a folder; the JSON last, so that `kept` never reads an incomplete copy."""
    if not is_kept(adaptation, folder):
        note = folder / "adaptation.json"
        note.unlink(missing_ok=True)
        base.save(folder)
        write_json(note, asdict(adaptation))


def renewed(base: Base, body: Mapping[str, np.ndarray]) -> Base:
    """Makes a `Base` of adapted weights."""
    return Base(f"{base.name}, adapted", base.config, body, given_again=False)
