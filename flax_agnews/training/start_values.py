"""What head and adapter start from where it isn't random: a PEFT adapter, or a classifier's own head."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from flax_agnews.config import Config, ModelConfig
from flax_agnews.errors import UserError, first_line, flag, listed, shown
from flax_agnews.models.pretrained import fetch_file, load_base
from flax_agnews.models.weights import Fetch, read_safetensors, read_tensors, select
from flax_agnews.system.files import parse_json, read_model_json
from flax_agnews.system.text import counted
from flax_agnews.training.state import Setup

HEAD = "score/kernel"


def started(setup: Setup, config: Config, classes: Sequence[str]) -> Setup:
    """The setup with the first values that `model.start` names; as it is where there are none.

    Args:
        setup: a strategy on the model.
        config: all settings.
        classes: the data's, in order: a head whose classes have the same names is brought into it.

    Raises:
        UserError: what is named can't be read, or isn't of this body, strategy and number of classes.
    """
    if (name := config.model.start) is None:
        return setup
    where, fetch = f"{flag('model.start')} {name}", partial(fetch_file, name, setting="model.start")
    if config.pretrain.epochs:
        raise UserError(
            f"{where}: was made for the body as it is, which {flag('pretrain.epochs')} changes; leave out one"
        )
    if fetch("adapter_config.json"):
        return replace(setup, first=adapter(setup, fetch, classes, where))
    if fetch("config.json"):
        head = _head(fetch, setup.base.config.n_embd, classes, where)
        # Under one name is one body.
        if name != setup.base.name and load_base(ModelConfig(name=name)).hash != setup.base.hash:
            raise UserError(
                f"{where}: its body is another than {setup.base.name}; give {flag('model.name')} {name}, too"
            )
        return replace(setup, first={HEAD: head})
    raise UserError(f"{where}: has neither adapter_config.json (of PEFT) nor config.json (of a classifier)")


def adapter(setup: Setup, fetch: Fetch, classes: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """What trains, path -> array, from a PEFT adapter that fits.

    Args:
        setup: the strategy on the model.
        fetch: gives the adapter's files.
        classes: the data's, in order.
        where: the adapter's name, for errors.
    """
    name, peft = setup.strategy.name, setup.strategy.peft
    if peft is None:
        raise UserError(f"{where}: is a PEFT adapter, and PEFT has no such method as strategy {name}; leave it out")
    fields = _fields(fetch, "adapter_config.json", where)
    if (file := fetch("adapter_model.safetensors")) is None:
        if fetch("adapter_model.bin") is None:
            raise UserError(f"{where}: has no adapter_model.safetensors")
        pickled = "has only adapter_model.bin, a pickle, which could run code and is never loaded"
        raise UserError(f"{where}: {pickled}. Where you trust it, load it with PEFT once and save_pretrained it")
    tensors, notes = read_safetensors(file, where)
    if (body := notes.get("base_sha256", setup.base.hash)) != setup.base.hash:
        theirs, ours = f"{shown(fields.get('base_model_name_or_path'), 100)} ({shown(body, 12)})", setup.base.name
        raise UserError(f"{where}: was trained on the body {theirs}, not on {ours} ({setup.base.hash[:11]}…)")
    shapes = {path: shape for path, shape in setup.frame.shapes.items() if path in setup.trainable}
    peft.check(fields, tensors.keys(), shapes, name, where)
    naming = peft.keys(shapes).__getitem__, ""
    measure = f"strategy {name} with {counted(len(classes), 'class')}"
    values = peft.values(select(tensors, peft.shapes(shapes), naming, f"{where}: {file.name}", measure), shapes)
    return {**values, HEAD: _in_order(values[HEAD], _noted(notes), classes, where)}


def _head(fetch: Fetch, width: int, classes: Sequence[str], where: str) -> np.ndarray:
    """A GPT2ForSequenceClassification's: [embd, classes]."""
    fields, found = _fields(fetch, "config.json", where), read_tensors(fetch, where)
    own = {key: value for key, value in found.items() if key == "score.weight"}
    measure = f"a body of width {width} with {counted(len(classes), 'class')}"
    head = select(own, {HEAD: (len(classes), width)}, (lambda path: "score.weight", ""), where, measure)[HEAD]
    return _in_order(head.T, _labels(fields.get("id2label"), len(classes)), classes, where)


def _fields(fetch: Fetch, file_name: str, where: str) -> dict[str, Any]:
    """A JSON object."""
    file = fetch(file_name)
    try:
        fields = read_model_json(file) if file else None
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {file_name} can't be read ({first_line(error)})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where}: {file_name} is not a JSON object")
    return fields


def _noted(notes: dict[str, str]) -> list[str] | None:
    """The classes of an adapter of this library's; PEFT notes none."""
    try:
        names = parse_json(notes.get("classes", "null"))
    except ValueError:
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _labels(id2label: Any, classes: int) -> list[str] | None:
    """A classifier's classes, where its config.json says more than transformers' own LABEL_0, LABEL_1 and so on."""
    found = [id2label.get(str(number)) for number in range(classes)] if isinstance(id2label, dict) else []
    names = [name for name in found if isinstance(name, str)]
    own = [f"LABEL_{number}" for number in range(classes)]
    return names if len(names) == classes and names != own else None


def _in_order(head: np.ndarray, names: list[str] | None, classes: Sequence[str], where: str) -> np.ndarray:
    """A head [embd, classes] with its columns in the order of the data's classes.

    Names are matched first. As it is where the head's classes have no names, or the data's are mere numbers from 0.
    """
    if names is not None and sorted(names) == sorted(classes):
        return head[:, [names.index(name) for name in classes]]
    numbered = list(classes) == list(map(str, range(len(classes))))
    if names is None or numbered:
        return head
    theirs, ours = listed(map(shown, names)), listed(map(shown, classes))
    raise UserError(f"{where}: its classes are {theirs}; the data's are {ours}")
