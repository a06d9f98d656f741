"""Loads GPT-2's weights by name: a hub id, a local directory, `builtin`, or random ones from a configuration."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key

from flax_agnews.config import ModelConfig
from flax_agnews.data.hub import offline, quiet
from flax_agnews.errors import UserError, first_line, flag
from flax_agnews.models import parameters
from flax_agnews.models.classifier import ClassifierModule
from flax_agnews.models.gpt2_config import GPT2Config
from flax_agnews.models.parameters import Frame, Leaf
from flax_agnews.models.weights import Fetch, read_weights, write_safetensors
from flax_agnews.settings.keywords import check_kind
from flax_agnews.system.files import read_model_json, write_json
from flax_agnews.system.machine import machine_memory
from flax_agnews.system.model_names import model_folder, on_hub

BODY = "transformer/"
"""Beginning of the paths of all parameters of the body."""


@dataclass(frozen=True)
class Base:
    """The pretrained weights, float32 on the host, from which every run of a comparison starts.

    Attributes:
        name: source of the weights: a hub id, a directory, `builtin`, or a description of random weights.
        config: configuration of the body.
        parameters: path -> array, all under `transformer/`.
        given_again: whether loading `name` gives the same weights again; if not, the output folder keeps a copy.
        left_out: names of heads in the files, which are not loaded.
    """

    name: str
    config: GPT2Config
    parameters: Mapping[str, np.ndarray]
    given_again: bool = True
    left_out: tuple[str, ...] = ()

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the weights' content."""
        return parameters.content_hash(self.parameters)

    def classifier(self, classes: int, key: Key[Array, ""], body: Mapping[str, Leaf] | None = None) -> ClassifierModule:
        """Makes a classifier from these weights and a random head.

        Args:
            classes: number of classes.
            key: random key of the head's weights.
            body: the same weights as arrays on a device, which the classifier then shares; by default they are copied
                there.
        """
        if body is None:
            body = {path: jnp.asarray(value) for path, value in self.parameters.items()}
        frame = plain_frame(self.config, classes)
        head = self.config.initializer_range * jax.random.normal(key, frame.shapes["score/kernel"])
        return frame.merge({**body, "score/kernel": head})

    def save(self, folder: Path) -> None:
        """Writes config.json and model.safetensors, as transformers' GPT2Model has them."""
        kind = {"model_type": "gpt2", "architectures": ["GPT2Model"]}
        write_json(folder / "config.json", {**kind, **asdict(self.config)})
        write_safetensors(folder / "model.safetensors", self.parameters)  # last: where it is, config.json is too


def load_base(config: ModelConfig, seed: int = 0) -> Base:
    """Loads the body that the settings name.

    Args:
        config: settings that name the body: a hub id, a directory, `builtin`, or sizes for random weights.
        seed: seed of random weights.

    Raises:
        UserError: there is no such model, or it isn't a GPT-2.
    """
    check_kind("load_base(config=", config, ModelConfig, 'a ModelConfig, such as ModelConfig(name="gpt2")')
    if config.from_config is not None:
        body = read_config(config.from_config)
        if (size := 4 * parameters.count_numbers(body_shapes(body))) > machine_memory():
            raise UserError(f"model.from_config: weights of {size / 1e9:,.0f} GB are more than this machine's memory")
        _, random = parameters.split(ClassifierModule(body, 2, jax.random.key(seed)))
        numbers = {path: np.asarray(value) for path, value in random.items() if path.startswith(BODY)}
        return Base(f"random GPT-2 {body.n_layer} x {body.n_embd}", body, numbers, given_again=False)
    fetch = partial(fetch_file, config.name)
    body = _parse_config(config.name, fetch)
    weights, heads = read_weights(fetch, body_shapes(body), config.name)
    return Base(config.name, body, weights, left_out=heads)


def read_config(source: str | Mapping[str, Any]) -> GPT2Config:
    """Reads a body's configuration.

    Args:
        source: the fields of a config.json, the path of one, a directory with one, a hub id, or `builtin`.
    """
    if not isinstance(source, str):
        return GPT2Config.from_dict(source, "model.from_config")
    if source.endswith(".json"):
        folder, name = str(Path(source).parent), Path(source).name
        return _parse_config(source, partial(fetch_file, folder), name)
    return _parse_config(source, partial(fetch_file, source))


def body_shapes(config: GPT2Config) -> dict[str, tuple[int, ...]]:
    """Path -> shape of each parameter of a body."""
    return {path: shape for path, shape in plain_frame(config, 2).shapes.items() if path.startswith(BODY)}


@cache  # every strategy of a comparison adapts the same one
def plain_frame(config: GPT2Config, classes: int) -> Frame[ClassifierModule]:
    """The frame of a classifier that no strategy has adapted; arguments as of `ClassifierModule`."""
    return parameters.abstract(lambda: ClassifierModule(config, classes, jax.random.key(0)))


def _parse_config(name: str, fetch: Fetch, file_name: str = "config.json") -> GPT2Config:
    file = fetch(file_name)
    if file is None:
        raise UserError(f"{name}: has no {file_name}")
    try:
        fields = read_model_json(file)
    except OSError as error:
        raise UserError(f"{name}: {file_name} can't be read: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{name}: {file_name} is not JSON ({first_line(error)})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{name}: {file_name} is not a JSON object")
    return GPT2Config.from_dict(fields, f"{name}: {file_name}")


def fetch_file(name: str, file: str, setting: str = "model.name") -> Path | None:
    """Fetches a file of a directory, `builtin` or a hub repository through its cache; None if it doesn't exist.

    Args:
        name: the directory, `builtin`, or the repository's hub id.
        file: name of the file in it.
        setting: the setting that named the directory, for errors.
    """
    if on_hub(name):
        return _fetch_from_hub(name, file, setting)
    folder = model_folder(name)
    if not folder.is_dir():
        raise UserError(f"{flag(setting)} {name}: no such directory")
    return path if (path := folder / file).is_file() else None


def _fetch_from_hub(name: str, file: str, setting: str) -> Path | None:
    from huggingface_hub import _CACHED_NO_EXIST, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        with quiet():
            return Path(hf_hub_download(name, file))
    except LocalEntryNotFoundError as error:
        if try_to_load_from_cache(name, file) is _CACHED_NO_EXIST:  # the cache knows that the repository lacks it
            return None
        random = f", or random weights by {flag('model.from_config')} FILE" if setting == "model.name" else ""
        advice = offline(f"{flag(setting)} DIR{random}")
        raise UserError(f"{name} is not in the cache and the hub can't be reached", advice) from error
    except EntryNotFoundError:
        return None
    except RepositoryNotFoundError as error:
        raise UserError(f"{flag(setting)} {name}: the hub has no such model (or it is private)") from error
    except HFValidationError as error:
        raise UserError(f"{flag(setting)} {name}: neither a directory nor a hub id") from error
    except Exception as error:  # errors of the client's HTTP library, which differs between versions
        raise UserError(
            f"{name}: downloading {file} failed ({first_line(error)})", "Run the same command to try again"
        ) from error
