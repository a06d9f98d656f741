"""What decides an adapted body, and where it is kept: the same texts, weights and settings are adapted once."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flax_agnews.config import ModelConfig, PretrainConfig, TrainConfig
from flax_agnews.data.encoded import Split
from flax_agnews.errors import UserError
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.system.files import read_json, write_json
from flax_agnews.training.parallel import Devices
from flax_agnews.training.program import plan_batches

_SHAPES = 2  # compiled, at most: as short as it is, more would compile longer than their padding costs


@dataclass(frozen=True)
class Adaptation:
    """What language-model adaptation did.

    Attributes:
        key: SHA-256 of texts, weights and settings: the same key, the same result.
        hash: of the adapted weights.
        loss: mean of each epoch, nats a token.
        seconds: it took when it was computed, compilation included.
    """

    key: str
    hash: str
    loss: list[float]
    seconds: float


def adaptation_key(
    base: Base,
    train: Split,
    end_of_text: int,
    config: PretrainConfig,
    model: ModelConfig,
    seed: int,
    arranged: str = "",
) -> str:
    """SHA-256 of all that decides the adapted weights: the exact texts, the weights, the settings.

    `arranged` is what `arrangement` gives: batches that are split or padded otherwise are summed in another order.
    """
    settings = [asdict(config), model.dtype, model.dropout, end_of_text, seed, base.hash]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    digest.update(train.tokens.ids.tobytes())
    digest.update(train.tokens.offsets.tobytes())
    digest.update(arranged.encode())
    return digest.hexdigest()


def arrangement(train: Split, config: PretrainConfig, shared: TrainConfig, devices: Devices, seed: int) -> str:
    """The compiled shapes, where `shared` makes them others than the defaults do; else empty.

    Args:
        train: the training texts.
        config: of language modelling.
        shared: `train`, of which `settings` says what holds here.
        devices, seed: as in `adapt`.
    """
    ours, usual = settings(config, shared), settings(config, TrainConfig())
    if ours == usual:
        return ""
    shapes, without = (plan_batches(train, how, [seed], devices).shapes for how in (ours, usual))
    return "" if shapes == without else json.dumps(shapes)


def settings(config: PretrainConfig, shared: TrainConfig) -> TrainConfig:
    """How language modelling trains.

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
    """The adapted body of a key from the first folder that holds it undamaged."""
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
    """Writes an adapted body where `kept` finds it; the JSON last, so that half a copy is never taken."""
    note = folder / "adaptation.json"
    if not note.is_file() or read_json(note) != asdict(adaptation):
        note.unlink(missing_ok=True)
        base.save(folder)
        write_json(note, asdict(adaptation))


def renewed(base: Base, body: Mapping[str, np.ndarray]) -> Base:
    """The body with adapted weights."""
    return Base(f"{base.name}, adapted", base.config, body, given_again=False)
