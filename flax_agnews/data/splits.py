"""Chooses the training, validation and test splits of a data source, and handles rows and splits without labels."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from flax_agnews.config import DataConfig
from flax_agnews.data.rows import Found, Rows
from flax_agnews.errors import UserError, flag, listed
from flax_agnews.system.text import counted

VALIDATION = ("validation", "val", "valid", "dev")
"""Names of a validation split, those that the `datasets` library recognizes."""

_PLAIN = DataConfig()
_TEST = 1  # part of the seed by which test rows are chosen, so that it differs from that of validation rows


def choose(place: str, have: Collection[str], config: DataConfig) -> dict[str, str]:
    """Chooses the training split, and the test and validation splits if there are any.

    Args:
        place: the source, for errors.
        have: names of the source's splits.
        config: settings that may name the splits.

    Raises:
        UserError: a named split is missing, one split is named twice, or there are several validation splits.
    """
    named = {"train": config.train_split, "validation": config.validation_split, "test": config.test_split}
    if config.validation_split is None:
        found = [name for name in VALIDATION if name in have and name not in named.values()]
        if len(found) > 1:
            raise UserError(
                f"{place}: has {listed(found)}: {flag('data.validation_split')} {found[0]} says which one validates"
            )
        named["validation"] = found[0] if found else None
    chosen = {split: name for split, name in named.items() if name is not None}
    twice = [split for split, name in chosen.items() if list(chosen.values()).count(name) > 1]
    if twice:
        flags = " and ".join(f"{flag(f'data.{split}_split')}" for split in twice)
        raise UserError(f"{flags}: both are {chosen[twice[0]]}; each needs a split of its own")
    for split, name in chosen.items():
        if name not in have and (split != "test" or name != _PLAIN.test_split):
            splits = f"has the splits {listed(have)}" if have else "has no splits"
            raise UserError(f"{flag(f'data.{split}_split')} {name}: {place} {splits}")
    return {split: name for split, name in chosen.items() if name in have}


def refuse_names(config: DataConfig, what: str) -> None:
    """Raises a `UserError` if settings name splits of a source that has none; `what` describes the source."""
    for setting in ("config", "train_split", "validation_split", "test_split"):
        value = getattr(config, setting)
        if value != getattr(_PLAIN, setting):
            raise UserError(f"{flag(f'data.{setting}')} {value}: is for folders and hub data sets; {what}")


def notes(chosen: Mapping[str, str]) -> list[str]:
    """Remarks on splits whose names aren't train, validation and test."""
    words = {"train": "trains", "validation": "validates", "test": "tests"}
    return [f"{name} {words[split]}" for split, name in chosen.items() if name != split]


def labelled(found: Found, config: DataConfig) -> Found:
    """Removes splits without any labels from a source, and adds notes on splits and rows without labels.

    Raises:
        UserError: no labelled training or test rows are left, or a validation split named by a setting has no labels.
    """
    rows, said = dict(found.splits), list(found.notes)
    for split, part in found.splits.items():
        if part.unlabelled and part.texts:
            said.append(f"{counted(part.unlabelled, 'row')} of {found.chosen.get(split, split)} without label left out")
        elif part.unlabelled:
            del rows[split]
            nothing = f"{part.place}: none of its {part.unlabelled:,} rows has a label"
            if split == "train" or (split == "validation" and config.validation_split):
                other = f"{flag('data.label_column')} names another column, {flag(f'data.{split}_split')} another split"
                raise UserError(f"{nothing}; {other}")
            said.append(f"{found.chosen.get(split, split)} has no labels")
            if split == "test" and config.test_fraction is None:
                raise UserError(f"{nothing}. {_instead(found.chosen, found.splits)}")
    if "test" not in rows and config.test_fraction is None:
        raise UserError(f"{config.source}: has no {config.test_split} split. {_instead(found.chosen, found.splits)}")
    if "test" in rows and config.test_fraction is not None:
        said.append("data.test_fraction isn't needed: the test split has labels")
    for part in rows.values():
        if part.names != rows["train"].names and part.names is not None:
            raise UserError(f"{part.place}: its type declares other class names than that of {rows['train'].place}")
    return replace(found, splits=rows, notes=said)


def _instead(chosen: Mapping[str, str], splits: Mapping[str, Rows]) -> str:
    """Advice on which split to test on instead."""
    share = f"{flag('data.test_fraction')} 0.1 holds that share of the training rows out"
    if "validation" in splits and splits["validation"].texts:
        return f"{flag('data.test_split')} {chosen['validation']} tests on that one, or {share}"
    return share


def hold_out(rows: int, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Chooses test rows: sorted indices of the rows that stay for training, and of those for testing."""
    fraction = config.test_fraction or 0.0
    held_out = math.ceil(fraction * rows)
    if held_out >= rows:
        raise UserError(f"{flag('data.test_fraction')} {fraction}: leaves none of {rows} training rows; lower it")
    order = np.random.default_rng([config.split_seed, _TEST]).permutation(rows)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
