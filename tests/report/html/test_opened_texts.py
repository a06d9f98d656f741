"""The packed texts, unpacked again, against the content; and what is left out when room is short."""

import base64
import gzip
import json
from typing import Any

import pytest
from support.page_contents import content

from flax_agnews.report.html.opened_texts import OpenedTexts, opened_texts

CONTENT = content(strategies=3, seeds=2, texts=400)


def unpacked(opened: OpenedTexts) -> dict[str, Any]:
    return json.loads(gzip.decompress(base64.b64decode(opened.encoded)))


def test_all_texts_and_answers_come_back() -> None:
    opened = opened_texts(CONTENT, 10**6)
    found = unpacked(opened)
    assert CONTENT.texts
    assert {int(number) for number in found["texts"]} == opened.numbers == set(CONTENT.texts)
    assert opened.wanted == len(CONTENT.texts)
    names = [entry.name for entry in CONTENT.entries]
    for number, (text, label, origin, answers) in found["texts"].items():
        wanted = CONTENT.texts[int(number)]
        assert (text, label, origin) == (wanted.content, wanted.label, wanted.origin)
        for place, *given in answers:
            counts = dict(zip(given[::2], given[1::2], strict=True))
            assert [counts.get(k, 0) for k in range(4)] == list(wanted.answers[names[place]])
    for place, one in enumerate(CONTENT.confusions):
        for (true, predicted), pairs in one.texts.items():
            assert found["cells"][f"{place}/{true}/{predicted}"] == [list(pair) for pair in pairs]


@pytest.mark.parametrize("room", [1000, 3000])
def test_the_hardest_texts_are_kept_when_room_is_short(room: int) -> None:
    opened = opened_texts(CONTENT, room)
    assert len(opened.encoded) <= room
    assert 0 < len(opened.numbers) < opened.wanted == len(CONTENT.texts or {})
    first = [*CONTENT.all_wrong, *CONTENT.disputed][: len(opened.numbers)]
    assert set(first) <= opened.numbers
    kept = {number for pairs in unpacked(opened)["cells"].values() for number, _ in pairs}
    assert kept <= opened.numbers


def test_without_room_or_texts_nothing_is_kept() -> None:
    assert opened_texts(CONTENT, 10).numbers == frozenset()
    assert opened_texts(content(3, 2, 60, show=False), 10**6) == OpenedTexts("", frozenset(), 0)
