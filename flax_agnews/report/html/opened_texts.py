"""The test texts that the page can open, and the confusions that ask for them, compressed for the page."""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flax_agnews.report.html.content import PageContent, Text


@dataclass(frozen=True)
class OpenedTexts:
    """What the page carries: base64 of gzip of JSON, the texts that are in it, and how many were asked for."""

    encoded: str
    numbers: frozenset[int]
    wanted: int


def opened_texts(content: PageContent, most_bytes: int) -> OpenedTexts:
    """Compresses as many texts as fit into `most_bytes`, those that all get wrong and the disputed ones first."""
    if not content.texts:
        return OpenedTexts("", frozenset(), 0)
    order = _order(content)
    # Halving finds the largest number that fits, to 2 %; a text is never larger compressed than alone.
    low, high, best = 0, len(order), ""
    while high - low > low // 50:
        middle = high if not best and low == 0 and high == len(order) else (low + high + 1) // 2
        encoded = _encoded(content, order[:middle])
        if len(encoded) <= most_bytes:
            low, best = middle, encoded
        else:
            high = middle - 1
    return OpenedTexts(best, frozenset(order[:low]), len(_asked(content)))


def _asked(content: PageContent) -> set[int]:
    """The numbers of all texts that confusions and lists ask for, whether the content has them or not."""
    cells = {number for one in content.confusions for cell in one.texts.values() for number, _ in cell}
    return cells | {*content.all_wrong, *content.disputed}


def _order(content: PageContent) -> list[int]:
    """The numbers of all texts that can be asked for, the most important first."""
    texts = content.texts or {}
    listed = [number for number in dict.fromkeys([*content.all_wrong, *content.disputed]) if number in texts]
    others = sorted((_asked(content) & set(texts)) - set(listed), key=lambda number: -_wrong(texts[number]))
    return [*listed, *others]


def _wrong(text: Text) -> int:
    return sum(sum(counts) - counts[text.label] for counts in text.answers.values())


def _encoded(content: PageContent, numbers: Sequence[int]) -> str:
    texts, kept = content.texts or {}, set(numbers)
    names = [entry.name for entry in content.entries]
    place = {name: k for k, name in enumerate(names)}
    data: dict[str, Any] = {
        "texts": {number: _row(texts[number], place) for number in numbers},
        "cells": {
            f"{place[one.strategy]}/{true}/{predicted}": [pair for pair in pairs if pair[0] in kept]
            for one in content.confusions
            for (true, predicted), pairs in one.texts.items()
        },
    }
    packed = gzip.compress(json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode(), 6, mtime=0)
    return base64.b64encode(packed).decode()


def _row(text: Text, place: dict[str, int]) -> list[Any]:
    """Content, label, origin, and for each strategy its number, then label and seeds of every answer given."""
    answers = [
        [place[name], *(part for label, seeds in enumerate(counts) if seeds for part in (label, seeds))]
        for name, counts in text.answers.items()
    ]
    return [text.content, text.label, text.origin, answers]
