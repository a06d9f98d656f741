"""An output folder's results.json, checked once."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from flax_agnews.errors import UserError, shown
from flax_agnews.metrics.statistics import COSTS
from flax_agnews.system.files import parse_json
from flax_agnews.system.text import counted

Results = Mapping[str, Any]
SCHEMA = 1

_NUMBER: tuple[type, ...] = (int, float)
_CURVES = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")
_SHARES = ("test_accuracy", "test_macro_f1")
_SECTIONS: Mapping[str, Mapping[str, tuple[type, ...]]] = {
    "data": {
        "source": (str,),
        "classes": (list,),
        "train": (int,),
        "validation": (int,),
        "test": (int,),
        "majority_accuracy": _NUMBER,
    },
    "model": {"name": (str,), "layers": (int,), "width": (int,), "parameters": (int,), "dtype": (str,)},
    "environment": {},
    "settings": {},
}
_PRETRAIN: Mapping[str, tuple[type, ...]] = {"epochs": (int,), "loss": (list,)}
_SEARCH: Mapping[str, tuple[type, ...]] = {
    "factor": _NUMBER,
    "rates": (list,),
    "edge": (str,),
    "trials": (list,),
    "updates": (int,),
    "cost": (dict,),
}
_RUN: Mapping[str, tuple[type, ...]] = {
    "strategy": (str,),
    "seed": (int,),
    "test_accuracy": _NUMBER,
    "test_macro_f1": _NUMBER,
    "test_confusion": (list, dict),
    "trainable_parameters": (int,),
    "total_parameters": (int,),
    "cost": (dict,),
    **dict.fromkeys(_CURVES, (list,)),
}


def read_results(folder: Path) -> Results:
    """The checked content of `folder`/results.json. UserError, in one line, for a missing or broken file."""
    path = folder / "results.json"
    try:
        # NaN and Infinity are no JSON, but a diverged loss may have been written so: null says the same.
        results = parse_json(path.read_text(encoding="utf-8"), parse_constant=lambda _: None, parse_float=_finite)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Give the output folder of an experiment with a finished run") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}). Run the experiment again to rewrite it") from None
    fault = _fault(results)
    if fault:
        raise UserError(f"{path}: {fault}. Run the experiment again to rewrite it")
    return results


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _fault(results: Any) -> str | None:
    """What is wrong with the content, in words, or None."""
    if not isinstance(results, dict):
        return "holds no JSON object"
    if results.get("schema") != SCHEMA:
        return f"has schema {shown(results.get('schema'))}, this version reads schema {SCHEMA}"
    for name, fields in _SECTIONS.items():
        fault = _lacking(name, results.get(name), fields)
        if fault:
            return fault
    data, pretrain = results["data"], results.get("pretrain")
    if data["test"] < 1 or not 0 <= data["majority_accuracy"] <= 1:
        return "data: has no test texts, or a majority_accuracy that is no share"
    if not _known_or_not(data.get(name) for name in ("tokens_per_text", "longest", "truncated")):
        return "data: tokens_per_text, longest or truncated is no number"
    counts, classes = data.get("class_texts"), len(data["classes"])
    if counts is not None and not (_is_counts(counts) and len(counts) == classes):
        return f"data.class_texts is no list of {counted(classes, 'count')}"
    notes = data.get("notes", [])
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        return "data.notes is no list of texts"
    if pretrain is not None:
        fault = _lacking("pretrain", pretrain, _PRETRAIN)
        if fault or not _known_or_not(pretrain["loss"]):
            return fault or "pretrain.loss holds something that is no number"
    if fault := _search_fault(results.get("search")):
        return fault
    runs = results.get("runs")
    if not isinstance(runs, list) or not runs:
        return "has no finished runs"
    return _first(runs, lambda place, run: _run_fault(place, run, results)) or _repeated(runs)


def _search_fault(search: Any) -> str | None:
    """Of the searches for rates, by strategy, where there are any."""
    if search is None:
        return None
    if not isinstance(search, dict):
        return "search is no table by strategy"
    for name, one in search.items():
        place = f"search.{shown(name)}"
        if fault := _lacking(place, one, _SEARCH):
            return fault
        trials = [trial if isinstance(trial, dict) else {} for trial in one["trials"]]
        factors = [trial.get("factor") for trial in trials]
        if not all(_is(number, _NUMBER) for number in [*one["rates"], *factors]):
            return f"{place}: a rate or a trial's factor is no number"
        if not _known_or_not([one["cost"].get("seconds"), *(trial.get("val_accuracy") for trial in trials)]):
            return f"{place}: an accuracy or a cost is no number"
        if not all("val_accuracy" in trial for trial in trials):
            return f"{place}: a trial has no val_accuracy"
    return None


def _first(runs: list[Any], check: Callable[[str, Any], str | None]) -> str | None:
    return next(filter(None, (check(f"runs[{index}]", run) for index, run in enumerate(runs))), None)


def _run_fault(place: str, run: Any, results: Results) -> str | None:
    fault = _lacking(place, run, _RUN)
    if fault:
        return fault
    for curve in _CURVES:
        if not run[curve] or len(run[curve]) != len(run["val_accuracy"]):
            return f"{place}.{curve} has {counted(len(run[curve]), 'epoch')}, val_accuracy {len(run['val_accuracy'])}"
        if curve.endswith("accuracy") and not all(_is(value, _NUMBER) for value in run[curve]):
            return f"{place}.{curve} holds something that is no number"
    shares = [*(run[name] for name in _SHARES), *run["train_accuracy"], *run["val_accuracy"]]
    if not all(0 <= share <= 1 for share in shares):
        return f"{place}: an accuracy or F1 is not between 0 and 1"
    others = [
        run.get("test_loss"),
        run.get("best_epoch"),
        run.get("rate_factor"),
        *(run["cost"].get(name) for name in COSTS),
    ]
    if not _known_or_not([*run["train_loss"], *run["val_loss"], *others]):
        return f"{place}: a loss, a cost, rate_factor or best_epoch is no number"
    for flag in ("custom", "stopped_early"):
        if not isinstance(run.get(flag, False), bool):
            return f"{place}.{flag} is neither true nor false"
    classes = len(results["data"]["classes"])
    if not _is_confusion(run["test_confusion"], classes):
        return f"{place}.test_confusion is no table of {classes} x {classes} counts"
    return None


def _is_confusion(table: Any, classes: int) -> bool:
    """Whether it is what `scores.confusion_record` gives for so many classes."""
    if isinstance(table, dict):
        lists: list[Any] = [table.get(name) for name in ("true", "predicted", "texts")]
        if not all(map(_is_counts, lists)):
            return False
        return len(set(map(len, lists))) == 1 and max([*lists[0], *lists[1]], default=0) < classes
    return len(table) == classes and all(_is_counts(row) and len(row) == classes for row in table)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(_is(count, (int,)) and count >= 0 for count in value)


def _lacking(place: str, section: Any, fields: Mapping[str, tuple[type, ...]]) -> str | None:
    if not isinstance(section, dict):
        return f"lacks {place}"
    bad = next((name for name, types in fields.items() if not _is(section.get(name), types)), None)
    return None if bad is None else f"{place}.{bad} is missing or of the wrong type"


def _is(value: Any, types: tuple[type, ...]) -> bool:
    """Whether it is one of the types; a truth value isn't, and neither is a whole number beyond 64 bits."""
    if isinstance(value, int):
        return int in types and not isinstance(value, bool) and abs(value) < 2**63
    return isinstance(value, types)


def _known_or_not(values: Iterable[Any]) -> bool:
    return all(value is None or _is(value, _NUMBER) for value in values)


def _repeated(runs: list[Any]) -> str | None:
    seen: set[tuple[str, int]] = set()
    for run in runs:
        key = (run["strategy"], run["seed"])
        if key in seen:
            return f"has two runs of {key[0]} with seed {key[1]}"
        seen.add(key)
    return None
