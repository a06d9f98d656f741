"""Initial values of head and adapter read from files (`model.start`): a PEFT adapter, or a classifier's head."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from flax_agnews.config import ModelConfig
from flax_agnews.errors import UserError, first_line, flag, listed, shown
from flax_agnews.models.pretrained import fetch_file, load_base
from flax_agnews.models.weights import Fetch, read_safetensors, read_tensors, select
from flax_agnews.system.files import parse_json, read_model_json
from flax_agnews.system.text import counted
from flax_agnews.training.adapted_model import AdaptedModel

HEAD = "score/kernel"
"""Path of the head's weights."""


def start_values(
    model: AdaptedModel,
    trainable: Mapping[str, tuple[int, ...]],
    name: str,
    classes: Sequence[str],
    changed_body: bool = False,
) -> dict[str, np.ndarray]:
    """Reads the initial values that `model.start` names: path -> array.

    Args:
        model: the adapted model.
        trainable: path -> shape of each trained parameter.
        name: hub id or directory of a PEFT adapter, or of a classifier.
        classes: class names of the data, in order; a head with the same names is sorted into this order.
        changed_body: whether language modelling changes the body first.

    Raises:
        UserError: the files can't be read, or don't fit the body, the strategy or the number of classes.
    """
    where, fetch = f"{flag('model.start')} {name}", partial(fetch_file, name, setting="model.start")
    if changed_body:
        raise UserError(
            f"{where}: was made for the body as it is, which {flag('pretrain.epochs')} changes; leave out one"
        )
    if fetch("adapter_config.json"):
        return read_adapter(model, trainable, fetch, classes, where)
    if fetch("config.json"):
        head, base = _head(fetch, model.base.config.n_embd, classes, where), model.base
        # The same name means the same body.
        if name != base.name and load_base(ModelConfig(name=name)).hash != base.hash:
            raise UserError(f"{where}: its body is another than {base.name}; give {flag('model.name')} {name}, too")
        return {HEAD: head}
    raise UserError(f"{where}: has neither adapter_config.json (of PEFT) nor config.json (of a classifier)")


def read_adapter(
    model: AdaptedModel, trainable: Mapping[str, tuple[int, ...]], fetch: Fetch, classes: Sequence[str], where: str
) -> dict[str, np.ndarray]:
    """Reads all trained parameters from a PEFT adapter that fits: path -> array.

    Args:
        model: the adapted model.
        trainable: path -> shape of each trained parameter.
        fetch: name -> file of the adapter.
        classes: class names of the data, in order.
        where: the adapter's name, for errors.
    """
    strategy, base = model.strategy.name, model.base
    if (peft := model.strategy.peft) is None:
        raise UserError(f"{where}: is a PEFT adapter, and PEFT has no such method as strategy {strategy}; leave it out")
    fields = _fields(fetch, "adapter_config.json", where)
    if (file := fetch("adapter_model.safetensors")) is None:
        if fetch("adapter_model.bin") is None:
            raise UserError(f"{where}: has no adapter_model.safetensors")
        pickled = "has only adapter_model.bin, a pickle, which could run code and is never loaded"
        raise UserError(f"{where}: {pickled}. Where you trust it, load it with PEFT once and save_pretrained it")
    tensors, notes = read_safetensors(file, where)
    if (body := notes.get("base_sha256", base.hash)) != base.hash:
        theirs = f"{shown(fields.get('base_model_name_or_path'), 100)} ({shown(body, 12)})"
        raise UserError(f"{where}: was trained on the body {theirs}, not on {base.name} ({base.hash[:11]}…)")
    peft.check(fields, tensors.keys(), trainable, strategy, where)
    naming = peft.keys(trainable).__getitem__, ""
    measure = f"strategy {strategy} with {counted(len(classes), 'class')}"
    found = select(tensors, peft.shapes(trainable), naming, f"{where}: {file.name}", measure)
    values = peft.values(found, trainable)
    return {**values, HEAD: _in_order(values[HEAD], _noted(notes), classes, where)}


def _head(fetch: Fetch, width: int, classes: Sequence[str], where: str) -> Float[np.ndarray, "width classes"]:
    """Reads the head of a GPT2ForSequenceClassification, with its columns in the order of the data's classes."""
    fields, found = _fields(fetch, "config.json", where), read_tensors(fetch, where)
    own = {key: value for key, value in found.items() if key == "score.weight"}
    measure = f"a body of width {width} with {counted(len(classes), 'class')}"
    head = select(own, {HEAD: (len(classes), width)}, (lambda path: "score.weight", ""), where, measure)[HEAD]
    return _in_order(head.T, _labels(fields.get("id2label"), len(classes)), classes, where)


def _fields(fetch: Fetch, file_name: str, where: str) -> dict[str, Any]:
    """Reads the fields of a JSON file; raises a `UserError` if it isn't an object."""
    file = fetch(file_name)
    try:
        fields = read_model_json(file) if file else None
    except (OSError, ValueError) as error:
        raise UserError(f"{where}: {file_name} can't be read ({first_line(error)})") from error
    if not isinstance(fields, dict):
        raise UserError(f"{where}: {file_name} is not a JSON object")
    return fields


def _noted(notes: dict[str, str]) -> list[str] | None:
    """Class names in the header of an adapter that this library wrote; None for others, since PEFT writes none."""
    try:
        names = parse_json(notes.get("classes", "null"))
    except ValueError:
        return None
    return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None


def _labels(id2label: Any, classes: int) -> list[str] | None:
    """Class names in a classifier's config.json; None for transformers' own LABEL_0, LABEL_1 and so on."""
    found = [id2label.get(str(number)) for number in range(classes)] if isinstance(id2label, dict) else []
    names = [name for name in found if isinstance(name, str)]
    own = [f"LABEL_{number}" for number in range(classes)]
    return names if len(names) == classes and names != own else None


def _in_order(
    head: Float[np.ndarray, "width classes"], names: list[str] | None, classes: Sequence[str], where: str
) -> Float[np.ndarray, "width classes"]:
    """Sorts a head's columns into the order of the data's classes.

    Names are matched first. The order stays if the head's classes have no names, or the data's are numbers from 0.
    """
    if names is not None and sorted(names) == sorted(classes):
        return head[:, [names.index(name) for name in classes]]
    numbered = list(classes) == list(map(str, range(len(classes))))
    if names is None or numbered:
        return head
    theirs, ours = listed(map(shown, names)), listed(map(shown, classes))
    raise UserError(f"{where}: its classes are {theirs}; the data's are {ours}")
