"""Reads and writes `result.json` and `results.json`; checks their fields and types when reading."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from flax_agnews.data.checks import DataCheck
from flax_agnews.errors import UserError, shown
from flax_agnews.runs.results import (
    SCHEMA,
    DataResult,
    ModelResult,
    PretrainResult,
    Results,
    RunResult,
    SearchResult,
    json_of,
)
from flax_agnews.system.files import fits, parse_json, read_json, write_json
from flax_agnews.system.text import counted

T = TypeVar("T")

_CURVES = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")


class Fault(ValueError):
    """A results file has invalid content; the message names the field."""


def write_run(path: Path, run: RunResult) -> None:
    """Writes a run's `result.json`."""
    write_json(path, json_of(run))


def read_run(path: Path) -> RunResult | None:
    """Reads a run's `STRATEGY/seed-K/result.json`; None where there is none.

    Raises:
        UserError: the file is damaged, or its strategy or seed isn't that of its path.
    """
    content = read_json(path)
    if content is None:
        return None
    try:
        run = run_from(content)
    except Fault:
        run = None
    if run is None or (run.strategy, f"seed-{run.seed}") != path.parts[-3:-1]:
        raise UserError(f"{path}: is no result of this run; remove it to have it made anew")
    return run


def write_results(folder: Path, results: Results) -> None:
    """Writes `folder`/results.json."""
    write_json(folder / "results.json", results.json)


def read_results(folder: Path) -> Results:
    """Reads and checks `folder`/results.json. UserError for a missing or damaged file."""
    path = folder / "results.json"
    try:
        # NaN and Infinity are not valid JSON, but may have been written for a diverged loss; they are read as null.
        content = parse_json(path.read_text(encoding="utf-8"), parse_constant=lambda _: None, parse_float=_finite)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file. Give the output folder of an experiment with a finished run") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}). Run the experiment again to rewrite it") from None
    try:
        return results_from(content)
    except Fault as fault:
        raise UserError(f"{path}: {fault}. Run the experiment again to rewrite it") from None


def run_from(content: Any, place: str = "run") -> RunResult:
    """Makes a run from the content of `result.json`; a `Fault`, beginning with `place`, for a field of a wrong type."""
    return _read(RunResult, place, content)


def results_from(content: Any) -> Results:
    """Makes results from the content of results.json; a `Fault` for fields of a wrong type, or in contradiction."""
    if not isinstance(content, dict):
        raise Fault("holds no JSON object")
    if content.get("schema") != SCHEMA:
        raise Fault(f"has schema {shown(content.get('schema'))}, this version reads schema {SCHEMA}")
    runs, search, pretrain = content.get("runs"), content.get("search"), content.get("pretrain")
    results = Results(
        flax_agnews=_typed(str | None, "flax_agnews", content.get("flax_agnews")),
        data=_read(DataResult, "data", content.get("data")),
        model=_read(ModelResult, "model", content.get("model")),
        pretrain=None if pretrain is None else _read(PretrainResult, "pretrain", pretrain),
        environment=_typed(dict, "environment", content.get("environment")),
        settings=_typed(dict, "settings", content.get("settings")),
        search=None if search is None else _searches(search),
        diverged=_typed(list, "diverged", content.get("diverged", [])),
        checks=_checks(content.get("checks")),
        runs=[run_from(run, f"runs[{i}]") for i, run in enumerate(_typed(list, "runs", runs))],
    )
    _check_data(results)
    for name, one in (results.search or {}).items():
        if not _numbers(one.rates):
            raise Fault(f"search.{shown(name)}: a rate is no number")
    if not results.runs:
        raise Fault("has no finished runs")
    for i, run in enumerate(results.runs):
        _check_run(f"runs[{i}]", run, len(results.data.classes))
    _check_repeated(results.runs)
    return results


def _checks(content: Any) -> list[DataCheck] | None:
    if content is None:
        return None
    return [_read(DataCheck, f"checks[{i}]", check) for i, check in enumerate(_typed(list, "checks", content))]


def _searches(content: Any) -> dict[str, SearchResult]:
    if not isinstance(content, dict):
        raise Fault("search is no table by strategy")
    return {name: _read(SearchResult, f"search.{shown(name)}", one) for name, one in content.items()}


def _check_data(results: Results) -> None:
    data = results.data
    if data.test < 1 or not 0 <= data.majority_accuracy <= 1:
        raise Fault("data: has no test texts, or a majority_accuracy that is no share")
    counts, classes = data.class_texts, len(data.classes)
    if counts is not None and not (_is_counts(counts) and len(counts) == classes):
        raise Fault(f"data.class_texts is no list of {counted(classes, 'count')}")
    for place, texts in (("data.notes", data.notes or []), ("diverged", results.diverged)):
        if not all(isinstance(text, str) for text in texts):
            raise Fault(f"{place} is no list of texts")
    if results.pretrain and not _numbers_or_none(results.pretrain.loss):
        raise Fault("pretrain.loss holds something that is no number")


def _check_run(place: str, run: RunResult, classes: int) -> None:
    """Raises a `Fault` where a run's values contradict each other, or can't be drawn."""
    for name in _CURVES:
        curve: list[Any] = getattr(run, name)
        if not curve or len(curve) != run.epochs:
            raise Fault(f"{place}.{name} has {counted(len(curve), 'epoch')}, val_accuracy {run.epochs}")
        if name.endswith("accuracy") and not _numbers(curve):
            raise Fault(f"{place}.{name} holds something that is no number")
    if run.val_macro_f1 is not None and len(run.val_macro_f1) != run.epochs:
        raise Fault(f"{place}.val_macro_f1 has {counted(len(run.val_macro_f1), 'epoch')}, val_accuracy {run.epochs}")
    shares = [run.test_accuracy, run.test_macro_f1, *run.train_accuracy, *run.val_accuracy]
    if not all(0 <= share <= 1 for share in shares):
        raise Fault(f"{place}: an accuracy or F1 is not between 0 and 1")
    if not _numbers_or_none([*run.train_loss, *run.val_loss, *(run.val_macro_f1 or [])]):
        raise Fault(f"{place}: a loss or macro-F1 is no number")
    if not _is_confusion(run.test_confusion, classes):
        raise Fault(f"{place}.test_confusion is no table of {classes} x {classes} counts")


def _check_repeated(runs: Iterable[RunResult]) -> None:
    seen: set[tuple[str, int]] = set()
    for run in runs:
        key = (run.strategy, run.seed)
        if key in seen:
            raise Fault(f"has two runs of {run.strategy} with seed {run.seed}")
        seen.add(key)


def _read(kind: type[T], place: str, content: Any) -> T:
    """Makes a dataclass of `runs/results.py` from its JSON object, called `place` in errors.

    An absent field gets its default, or None where its type allows that; unknown fields are ignored.
    """
    if not isinstance(content, Mapping):
        raise Fault(f"lacks {place}")
    hints, named = get_type_hints(kind), {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    given = [name for name, field in named.items() if name in content or field.default is MISSING]
    return kind(**{name: _typed(hints[name], f"{place}.{name}", content.get(name)) for name in given})


def _typed(hint: Any, place: str, value: Any) -> Any:
    """Returns a value of the type `hint`, with dataclasses made from JSON objects; a `Fault` for another type."""
    if is_dataclass(hint) and isinstance(hint, type):
        return _read(hint, place, value)
    large = isinstance(value, int) and abs(value) >= 2**63  # beyond NumPy's int64
    if large or not fits(value, hint):
        raise Fault(f"{place} is missing or of the wrong type")
    item = next(iter(get_args(hint)), None)
    if get_origin(hint) is list and is_dataclass(item):
        return [_typed(item, f"{place}[{i}]", one) for i, one in enumerate(value)]
    return value


def _is_confusion(table: list[list[int]] | dict[str, list[int]], classes: int) -> bool:
    """Whether a table has the form of a `scores.confusion_record` for this number of classes."""
    if isinstance(table, dict):
        lists: list[Any] = [table.get(name) for name in ("true", "predicted", "texts")]
        if not all(map(_is_counts, lists)):
            return False
        return len(set(map(len, lists))) == 1 and max([*lists[0], *lists[1]], default=0) < classes
    return len(table) == classes and all(_is_counts(row) and len(row) == classes for row in table)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(count) is int and 0 <= count < 2**63 for count in value)


def _numbers(values: Iterable[Any]) -> bool:
    """Whether all values are numbers; booleans, and integers beyond 64 bits, are not."""
    return all(type(value) in (int, float) and not (type(value) is int and abs(value) >= 2**63) for value in values)


def _numbers_or_none(values: Iterable[Any]) -> bool:
    return _numbers(value for value in values if value is not None)


def _finite(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None
