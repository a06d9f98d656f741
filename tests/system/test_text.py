"""Formats of numbers, durations and names; counts with their nouns: one of a thing is never called many."""

import datetime
import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.report_results import page_tables
from support.small_experiments import BODY, small

from flax_agnews import export, predict
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.main import main
from flax_agnews.system.text import (
    bytes_text,
    count,
    counted,
    duration,
    left_text,
    p_text,
    pipe_table,
    seconds_text,
    share_text,
    short_count,
    short_names,
    type_text,
    words_duration,
)

NOUNS = {
    "text": "texts", "validation text": "validation texts", "class": "classes", "process": "processes", "box": "boxes",
    "strategy": "strategies", "key": "keys", "batch": "batches", "epoch": "epochs", "loss spike": "loss spikes",
}  # fmt: skip

_NOUNS = "text|seed|epoch|run|step|layer|class|strateg|token|trial|update|core|process"


@pytest.mark.parametrize(
    ("p", "text"), [(0.04, "0.040"), (0.001, "0.001"), (0.0004, "<0.001"), (0.0, "<0.001"), (1.0, "1.000"), (None, "–")]
)
def test_p_values(p: float | None, text: str) -> None:
    assert p_text(p) == text


@pytest.mark.parametrize(("one", "many"), NOUNS.items())
def test_counted(one: str, many: str) -> None:
    assert counted(1, one) == f"1 {one}"
    assert [counted(number, one) for number in (0, 2, 21, 1001)] == [f"{n} {many}" for n in ("0", "2", "21", "1,001")]


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"])), min_size=1, max_size=4))
def test_any_name_survives_a_markdown_table(cells: list[str]) -> None:
    (table,) = page_tables(pipe_table([f"h{i}" for i in range(len(cells))], [cells]))
    assert table[1] == cells


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (10, 10, "100 %"),
        (9_999, 10_000, ">99 %"),
        (45, 100, "45 %"),
        (3, 1000, "0.3 %"),
        (15, 100_000, "0.015 %"),
        (0, 10, "0 %"),
    ],
)
def test_shares(part: int, whole: int, text: str) -> None:
    assert share_text(part, whole) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.42, "0.4 s"),
        (9.97, "10 s"),
        (59.6, "1 min 0 s"),
        (100, "1 min 40 s"),
        (3599.7, "1 h 0 min"),
        (7380, "2 h 3 min"),
        (None, "–"),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (950, "950"),
        (999.7, "1.0 k"),
        (21_000, "21 k"),
        (999_600, "1.0 M"),
        (124_442_880, "124 M"),
        (3.4e9, "3.4 G"),
    ],
)
def test_counts(count: float, text: str) -> None:
    assert short_count(count) == text
    assert bytes_text(count) == (f"{text}B" if " " in text else f"{text} B")


def test_the_time_left_is_empty_where_it_is_unknown() -> None:
    assert (left_text(52.0), left_text(None)) == ("0:00:52 left", "")


def test_the_type_of_products_is_named_where_it_is_another() -> None:
    assert type_text("float32", "TF32") == "float32 (products in TF32)"
    assert {type_text("bfloat16", products) for products in ("bfloat16", None)} == {"bfloat16"}


def test_long_names_of_classes_are_short_and_different() -> None:
    names = ["http://dbpedia.org/ontology/Company", "http://dbpedia.org/ontology/Artist", "a\nb", "x" * 30 + "y" * 30]
    twins = ["x" * 30 + "z" + "y" * 30, "x" * 31 + "y" * 30]
    short = short_names(names + twins)
    assert short[:3] == ["http://dbped…ogy/Company", "http://dbped…logy/Artist", "a b"]
    assert len(set(short)) == 6
    assert max(map(len, short)) < 30


def test_nothing_that_people_read_says_1_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of everything that there may be one of: strategy, seed, epoch, step, layer, test text, row."""
    output, run = tmp_path / "out", str(tmp_path / "out" / "head" / "seed-42")
    body = json.dumps({**BODY, "n_layer": 1})
    flags = ("--strategy", "head", "--train.runs", 1, "--train.epochs", 1, "--pretrain.epochs", 1)
    sizes = ("--data.limit_test", 1, "--train.batch_size", 128, "--train.cache_frozen", "on")
    assert main(small(output, "--model.from_config", body, *flags, *sizes)) == 0
    assert main(["--list_strategies", "--model.from_config", body, "--train.epochs", "1"]) == 0
    (file := tmp_path / "one.csv").write_text("text,label\nshares rise,0\n")
    assert predict.main([run, "--file", str(file), "--out", str(tmp_path / "answers.csv"), "--prefix", "my_"]) == 0
    assert evaluate_main([run, "--data", str(file)]) == 0
    assert export.main([run, "--to", "hf", str(tmp_path / "exported")]) == 0
    shown = "\n".join(capsys.readouterr())
    pages = [(output / "report.md").read_text(), (tmp_path / "exported" / "README.md").read_text()]
    for text in (shown, *pages):
        assert re.search(r"(?<![\d.,])1 (text|test text|seed|epoch|strategy|layer)\b", text)
        assert not re.findall(rf"(?<![\d.,])1 (?:\w+ )?(?:{_NOUNS})(?:s|es|ies)\b", text)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"), (3.44, "3.4"), (9.96, "10"), (999.4, "999"), (999.6, "1 k"), (1500, "1.5 k"),
        (21034, "21 k"), (912384, "912 k"), (999_999, "1 M"), (124_439_808, "124 M"), (3.2e9, "3.2 G"),
    ],
)  # fmt: skip
def test_count(number, text):
    assert count(number) == text


@pytest.mark.parametrize("seconds", [0, 31.4, 59.6, 60, 3599.5, 3725, 86399])
def test_duration_is_what_datetime_says(seconds):
    assert duration(seconds) == str(datetime.timedelta(seconds=round(seconds)))


def test_duration_of_days_and_of_nothing():
    assert duration(26 * 3600 + 61) == "26:01:01"
    assert duration(-3) == "0:00:00"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "0 s"), (12, "12 s"), (59.7, "1 min"), (100, "1 min 40 s"), (3599.6, "1 h"), (3600, "1 h"),
        (3629, "1 h"), (3725, "1 h 2 min"), (7199, "2 h"),
    ],
)  # fmt: skip
def test_words_duration(seconds, text):
    assert words_duration(seconds) == text
