"""The allowed range of every setting that has one."""

import re
from collections.abc import Mapping
from typing import Any

from flax_agnews.config import Config
from flax_agnews.errors import UserError, flag

_DELIMITER = "one character, but no quote or line break, or tab"


def _delimits(value: str) -> bool:
    return value == "tab" or (len(value) == 1 and value not in '"\r\n')


def _is_shard(value: str) -> bool:
    found = re.fullmatch(r"(?:auto|([1-9]\d{0,5}))/([1-9]\d{0,5})", value)
    return value == "auto" or (found is not None and int(found[1] or 1) <= int(found[2]))


def _is_address(value: str) -> bool:
    found = re.fullmatch(r"[^/\s]+:(\d{1,5})", value)
    return found is not None and 0 < int(found[1]) < 2**16


def check_delimiter(setting: str, value: str | None) -> None:
    """Raises a `UserError` unless `value` is a valid CSV delimiter, or None (detected from the header).

    Args:
        setting: name of the setting or flag, for the error.
        value: the delimiter.
    """
    if value is not None and not _delimits(value):
        raise UserError(f"{setting} {value}: must be {_DELIMITER}")


# setting -> (check, allowed range in words); types and choices are checked elsewhere
_RANGES: Mapping[str, tuple[Any, str]] = {
    "model.dropout": (lambda v: v is None or 0 <= v < 1, "at least 0 and below 1"),
    "data.text_column": (
        lambda v: isinstance(v, str) or len(v) == len(set(v)) == 2,
        "a column, or two different ones, such as [premise, hypothesis]",
    ),
    "data.test_fraction": (lambda v: v is None or 0 < v < 1, "above 0 and below 1"),
    "data.delimiter": (lambda v: v is None or _delimits(v), _DELIMITER),
    "data.max_length": (lambda v: v >= 1, "1 or more"),
    "data.validation_fraction": (lambda v: 0 < v < 1, "above 0 and below 1"),
    "data.limit_train": (lambda v: v is None or v >= 2, "2 or more"),
    "data.limit_test": (lambda v: v is None or v >= 1, "1 or more"),
    "pretrain.epochs": (lambda v: v >= 0, "0 or more"),
    "pretrain.learning_rate": (lambda v: v > 0, "above 0"),
    "pretrain.batch_size": (lambda v: v >= 1, "1 or more"),
    "train.epochs": (lambda v: v >= 1, "1 or more"),
    "train.batch_size": (lambda v: v >= 1, "1 or more"),
    "train.eval_batch_size": (lambda v: v >= 1, "1 or more"),
    "train.seed": (lambda v: 0 <= v < 2**31, "0 to 2147483647"),
    "train.runs": (lambda v: v >= 1, "1 or more"),
    "train.weight_decay": (lambda v: v >= 0, "0 or more"),
    "train.label_smoothing": (lambda v: 0 <= v < 1, "at least 0 and below 1"),
    "train.early_stopping": (lambda v: v is None or v >= 1, "1 or more"),
    "train.warmup_fraction": (lambda v: 0 <= v <= 1, "0 to 1"),
    "train.clip_norm": (lambda v: v is None or v > 0, "above 0"),
    "train.micro_batch_tokens": (lambda v: v >= 1, "1 or more"),
    "train.shapes": (lambda v: v == "auto" or v >= 1, "auto, or 1 or more"),
    "train.parallel_seeds": (lambda v: v >= 1, "1 or more"),
    "train.cache_gigabytes": (lambda v: v > 0, "above 0"),
    "search.trials": (lambda v: v == 0 or 2 <= v <= 15, "0, or 2 to 15"),
    "search.budget": (lambda v: v > 0, "above 0"),
    "parallel.devices": (lambda v: v is None or v >= 1, "1 or more"),
    "parallel.shard": (_is_shard, "I/N with I from 1 to N, such as 2/4; auto/N, or auto"),
    "parallel.processes": (lambda v: v is None or v >= 1, "1 or more"),
    "parallel.process": (lambda v: v is None or v >= 0, "0 or more"),
    "parallel.start_seconds": (lambda v: v >= 1, "1 or more"),
    "plan.devices": (lambda v: v is None or v >= 1, "1 or more"),
    "parallel.address": (lambda v: v in (None, "auto") or _is_address(v), "HOST:PORT of the cluster's head, or auto"),
    "parallel.task_gpus": (lambda v: v is None or v >= 0, "0 or more"),
    "parallel.task_cpus": (lambda v: v is None or v >= 1, "1 or more"),
    "checkpoint.share": (lambda v: 0 < v <= 1, "above 0, 1 at most"),
    "checkpoint.every_steps": (lambda v: v >= 0, "0 or more"),
    "checkpoint.keep_last": (lambda v: v >= 1, "1 or more"),
    "checkpoint.gigabytes": (lambda v: v is None or v > 0, "above 0"),
}


def range_words(name: str) -> str | None:
    """The range of a setting (`train.epochs`) in words; None for settings without a range."""
    return _RANGES[name][1] if name in _RANGES else None


def check_range(name: str, value: Any, where: str) -> None:
    """Raises a `UserError` unless a setting's value is in its range; `where` is the beginning of the message."""
    allowed, words = _RANGES.get(name, (lambda _: True, ""))
    if not allowed(value):
        raise UserError(f"{where}: must be {words}")


def check_ranges(config: Config) -> None:
    """Raises a `UserError` that names the first setting outside its range."""
    for name in _RANGES:
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        check_range(name, value, f"{flag(name)} {value}")
    if config.data.paired and config.data.max_length < 3:
        each = "a token of each text, and the separator"
        raise UserError(f"{flag('data.max_length')} {config.data.max_length}: must be 3 or more for pairs: {each}")
