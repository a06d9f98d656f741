"""Bodies that were adapted by language modelling, kept under a hash of the texts, weights and settings behind them."""

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
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import plan_batches

_SHAPES = 2  # compiled, at most: as short as it is, more would compile longer than their padding costs


@dataclass(frozen=True)
class Adaptation:
    """The result of language-model adaptation, beside the weights.

    Attributes:
        key: SHA-256 of texts, weights and settings: the same key, the same result.
        hash: of the adapted weights.
        loss: mean of each epoch, nats a token.
        seconds: that it took when it was computed, compilation included.
    """

    key: str
    hash: str
    loss: list[float]
    seconds: float


@dataclass(frozen=True)
class AdaptationTask:
    """All that decides an adapted body.

    Attributes:
        base: the body to start from; left as it is.
        train: the training texts; labels aren't read.
        end_of_text: id that ends every text.
        config: settings of language modelling.
        model: settings of the model, of which dtype and dropout count.
        shared: settings of strategies' training, of which `settings` says what holds in language modelling.
        devices: that share every batch.
        seed: of batches and dropout.
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
        """The task that an experiment's settings ask for."""
        return cls(base, train, end_of_text, config.pretrain, config.model, config.train, devices, config.train.seed)

    @property
    def settings(self) -> TrainConfig:
        """How language modelling trains."""
        return settings(self.config, self.shared)

    def batches(self, how: TrainConfig) -> TrainBatches:
        """The batches under these settings of training."""
        return plan_batches(self.train, how, [self.seed], self.devices)

    @property
    def key(self) -> str:
        """SHA-256 of all that decides the adapted weights.

        Compiled shapes count where they differ from those of the default settings: batches that are split or padded
        otherwise are summed in another order.
        """
        usual = settings(self.config, TrainConfig())
        if self.settings == usual:
            return self.key_of_settings
        shapes, without = (self.batches(how).shapes for how in (self.settings, usual))
        return self._key("" if shapes == without else json.dumps(shapes))

    @property
    def key_of_settings(self) -> str:
        """The same whatever the compiled shapes are, as earlier versions had it."""
        return self._key("")

    def _key(self, shapes: str) -> str:
        model = self.model
        facts = [asdict(self.config), model.dtype, model.dropout, self.end_of_text, self.seed, self.base.hash]
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
        digest.update(self.train.tokens.ids.tobytes())
        digest.update(self.train.tokens.offsets.tobytes())
        digest.update(shapes.encode())
        return digest.hexdigest()


def settings(config: PretrainConfig, shared: TrainConfig) -> TrainConfig:
    """The training settings of language modelling.

    Of `train`, what says how a step is computed holds here too. What says how strategies learn doesn't (decay,
    schedule, clipping, what is done about numbers that aren't finite): language modelling has its own recipe, so that
    the body stays the same, and needn't be adapted anew, while settings of the comparison are tried.
    """
    return TrainConfig(
        epochs=config.epochs,
        batch_size=config.batch_size,
        schedule="cosine",
        warmup_fraction=0.05,
        clip_norm=1.0,
        micro_batch_tokens=shared.micro_batch_tokens,
        shapes=min(_SHAPES, shared.shapes),
    )


def kept(base: Base, key: str, folders: Sequence[Path]) -> tuple[Base, Adaptation] | None:
    """The adapted body of a key, read from the first folder that holds it undamaged; None where none does."""
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


def keep(base: Base, adaptation: Adaptation, folder: Path) -> None:
    """Writes an adapted body into a folder; the JSON last, so that `kept` never takes half a copy."""
    note = folder / "adaptation.json"
    if not note.is_file() or read_json(note) != asdict(adaptation):
        note.unlink(missing_ok=True)
        base.save(folder)
        write_json(note, asdict(adaptation))


def renewed(base: Base, body: Mapping[str, np.ndarray]) -> Base:
    """The body with adapted weights."""
    return Base(f"{base.name}, adapted", base.config, body, given_again=False)
