"""The page as a file: its size, that nothing in it is loaded or can run by mistake, and what few data leave of it."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from support.page_contents import HOSTILE, content

from flax_agnews.report.html.content import Confusion, Entry, Estimate, PageContent, Text
from flax_agnews.report.html.page import MOST_BYTES, confused, embedded_json, html_page

SMALL = content(strategies=3, seeds=2, texts=60)


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and the texts of its scripts and of everything else."""

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs).get("type"), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            kind, before = self.scripts[-1]
            self.scripts[-1] = kind, before + data
        elif self.cdata_elem is None:
            self.text += data


def test_nothing_is_loaded_and_only_our_scripts_run() -> None:
    page = Parsed(html_page(content(3, 2, 60, extra=HOSTILE)))
    addresses = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert all(value == "data:," or (value or "").startswith("#") for value in addresses)
    assert not [key for _, attributes in page.tags for key in attributes if key.startswith("on")]
    assert {tag for tag, _ in page.tags} & {"img", "iframe", "object"} == set()
    (policy,) = [a["content"] or "" for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    running = [text for kind, text in page.scripts if kind == "module"]
    assert {base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in running} == allowed
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy.split("style-src")[0]
    (data,) = [text for kind, text in page.scripts if kind == "application/json"]
    assert HOSTILE in json.loads(data)["names"][0]


def test_json_in_a_script_comes_back_and_closes_nothing() -> None:
    value = {"a": [HOSTILE, "<!--", 1.5, None]}
    text = embedded_json(value)
    assert json.loads(text) == value
    assert "<" not in text
    assert "\u2028" not in text


def test_the_page_is_never_too_large() -> None:
    """7,600 long texts, which hardly compress, that all get wrong."""
    letters = np.random.default_rng(0).integers(33, 126, (7600, 300)).astype(np.uint8)
    texts = {
        k: Text(row.tobytes().decode(), 0, f"test.csv row {k}", {"full": [0, 2, 0, 0]}) for k, row in enumerate(letters)
    }
    wrong = [(k, 2) for k in range(7600)]
    large = replace(
        SMALL, texts=texts, confusions=[Confusion("full", 2, np.eye(4, dtype=int).tolist(), {(0, 1): wrong})],
        all_wrong=range(7600), disputed=[],
    )  # fmt: skip
    page = html_page(large)
    assert 0.8 * MOST_BYTES < len(page.encode()) <= MOST_BYTES
    assert re.search(r"Of 7,600 texts that some strategy or reference gets wrong, this page holds the \d,\d{3}", page)


def test_texts_can_be_left_out() -> None:
    page = html_page(content(3, 2, 60, show=False))
    assert "data-cell" not in page.split("<script")[0]
    assert "data-list" not in page.split("<script")[0]
    assert "The texts were left out." in page


def test_many_classes_become_a_list_of_confusions() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (20, 20))
    found = confused(counts.tolist(), 5)
    assert [count for *_, count, _ in found] == sorted(counts[~np.eye(20, dtype=bool)].tolist())[::-1][:5]
    for true, predicted, count, share in found:
        assert counts[true, predicted] == count
        assert share == pytest.approx(count / counts[true].sum())
    classes = [f"class {k}" for k in range(20)]
    page = html_page(replace(SMALL, classes=classes, confusions=[Confusion("full", 1, counts.tolist())], texts=None))
    assert 'class="pairs"' in page
    assert 'class="matrix"' not in page


def test_a_folder_of_few_data_has_a_page_without_empty_sections() -> None:
    entry = Entry(name="full", rank=None, seeds=1, accuracy=Estimate(0.9))
    page = Parsed(
        html_page(PageContent(title="One", sentences=("A.", "B."), classes=["x", "y"], test_texts=10, entries=[entry]))
    )
    sections = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert sections == ["answer", "leaderboard", "reproduce"]
    assert not [attributes for _, attributes in page.tags if "data-chart" in attributes]


def test_the_same_content_gives_the_same_page() -> None:
    assert html_page(SMALL) == html_page(SMALL)
