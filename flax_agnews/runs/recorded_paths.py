"""Makes local paths in settings absolute for config.yaml, so that a run is usable from any working directory."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flax_agnews.data import builtin, files
from flax_agnews.system.files import absolute, expanded
from flax_agnews.system.model_names import BUILTIN, is_local


def recorded(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for config.yaml: those of `output_folder.config_dict`, with absolute paths."""
    return _with_paths(settings, absolute)


def compared(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for comparison: with absolute paths, and symbolic links resolved."""
    return _with_paths(settings, lambda name: os.path.realpath(absolute(name)) if "\0" not in name else name)


def located(name: str) -> str:
    """The name of a model or tokenizer with a directory made absolute; a hub id is unchanged."""
    return absolute(name) if name and is_local(name) else name


def _with_paths(settings: Mapping[str, Any], place: Callable[[str], str]) -> dict[str, Any]:
    """Settings with the function `place` applied to every local path; hub ids and other values are unchanged."""
    kinds: dict[str, dict[str, Callable[[str], bool]]] = {
        "model": {"name": is_local, "from_config": _is_local_config, "tokenizer": is_local, "start": is_local},
        "data": {"source": _is_local_data, "test_source": lambda name: True},
    }
    found = dict(settings)
    for section, fields in kinds.items():
        if isinstance(values := found.get(section), Mapping):
            names = {field: name for field in fields if isinstance(name := values.get(field), str) and name}
            places = {field: place(name) for field, name in names.items() if fields[field](name)}
            found[section] = {**values, **places}
    if isinstance(output := found.get("output"), str) and output:
        found["output"] = place(output)
    return found


def _is_local_config(name: str) -> bool:
    """Whether a `model.from_config` (directory, JSON file or hub id) is a local path."""
    return name != BUILTIN and (
        is_local(str(Path(name).parent) if name.endswith(".json") else name) or expanded(name).is_file()
    )


def _is_local_data(name: str) -> bool:
    return not builtin.claims(name) and files.claims(name)
