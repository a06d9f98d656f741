"""Labels with declared class names: by classes.txt, by a column's type, or by a trained run."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.source_files import ROWS, folder, load, pairs, refusal

from flax_agnews.data.labels import choose_reading, find_classes
from flax_agnews.data.rows import Rows
from flax_agnews.errors import UserError

NAMES = ["World", "Sports", "Business", "Sci/Tech"]


def declared(path, names, train, test=None):
    (path / "classes.txt").write_text("\n".join(names) + "\n", "utf-8")
    return folder(path, train, train if test is None else test)


def rows(*labels, names=None):
    return Rows("a.csv", ["text"] * len(labels), labels, range(2, len(labels) + 2), "line", names)


def reading(names, *labels, **how):
    """What each label means: (how it was read, class numbers)."""
    found = choose_reading([rows(*labels)], names, **how)
    return found.how, found.numbers(rows(*labels)).tolist()


def test_class_names_from_a_file(tmp_path):
    (tmp_path / "classes.txt").write_text("\r\n".join(NAMES) + "\n\n", newline="")
    corpus = load(folder(tmp_path))
    assert corpus.classes == NAMES
    assert pairs(corpus.test) == ROWS

    named = [(text, NAMES[label]) for text, label in ROWS]
    by_name = load(folder(tmp_path, named, named))
    assert by_name.classes == NAMES
    assert pairs(by_name.test) == ROWS


def test_names_that_are_digits_are_matched_as_names(tmp_path):
    """Labels 1 to 4 of five classes called 1 to 5, as in AG News' first release."""
    train = [(f"text {label}", str(label)) for label in (1, 2, 3, 4)]
    corpus = load(declared(tmp_path, "12345", train))
    assert corpus.classes == list("12345")
    assert [corpus.classes[number] for number in corpus.test.labels] == list("1234")
    assert "labels are names of the declared classes" in corpus.notes


def test_labels_with_two_readings_are_refused_with_both(tmp_path):
    train = [(f"text {label}", label) for label in range(4)]
    data = declared(tmp_path, "1234", train)
    message = refusal(data)
    assert f"{tmp_path / 'train.csv'} line 2: label 0 is no class name" in message
    assert "as a position from 0 it would be 1, but label 1 is a name" in message
    assert "--data.labels names, or --data.labels positions" in message
    assert load(data, labels="positions").test.labels.tolist() == [0, 1, 2, 3]
    assert "line 2: label 0 is no class. Known: 1, 2, 3, 4" in refusal(data, labels="names")


def test_all_splits_are_read_in_one_way(tmp_path):
    """Positions in one split and names in another would be two readings of one column."""
    by_name = [(text, NAMES[label]) for text, label in ROWS]
    message = refusal(declared(tmp_path, NAMES, by_name, ROWS))
    assert f"{tmp_path / 'test.csv'} line 2: label 0 is no class name" in message
    assert "label World is a name" in message


def test_labels_must_be_among_the_names_of_the_file(tmp_path):
    message = refusal(declared(tmp_path, ["One", "Two"], ROWS))
    assert f"{tmp_path / 'train.csv'} line 4" in message
    assert "label 2 is no class: neither a name nor a position (0 to 1). Known: One, Two." in message


@pytest.mark.parametrize(
    ("names", "labels", "how", "numbers"),
    [
        (["1", "2"], ["1", "2", "1"], "names", [0, 1, 0]),
        (["1", "2"], [1, 2], "names", [0, 1]),
        (["1", "2"], [2.0], "names", [1]),
        (["1", "2"], ["0"], "positions", [0]),
        (["a", "b"], ["0", " 1", "1.0", 1], "positions", [0, 1, 1, 1]),
        (["a", "b"], ["b", "a"], "names", [1, 0]),
        (["1.0", "2.0"], ["2.0", "1.0"], "names", [1, 0]),
        (["1.0", "2.0"], ["1", "0"], "positions", [1, 0]),
        (["01", "1"], ["1", "01"], "names", [1, 0]),
        (["-1", "1"], ["-1", "1"], "names", [0, 1]),
        (["None", "true"], ["true", "None"], "names", [1, 0]),
        (["True", "False"], [True, False], "names", [0, 1]),
        ([" a", "a"], ["a", " a"], "names", [1, 0]),
    ],
)
def test_names_are_matched_first_exactly(names, labels, how, numbers):
    assert reading(names, *labels) == (how, numbers)


@pytest.mark.parametrize(
    ("names", "labels", "words"),
    [
        (["1", "2"], ["1", "0"], ["label 0 is no class name", "it would be 1", "label 1 is a name"]),
        (["a", "b"], ["a", "1"], ["label 1 is no class name", "it would be b", "label a is a name"]),
        (["a", "b"], ["0", "2"], ["label 2 is no class", "0 to 1"]),
        (["a", "b"], ["-1"], ["label -1 is no class", "-1 often marks rows without a label"]),
        (["1", "2"], ["-1"], ["label -1 is no class", "-1 often marks rows without a label"]),
        (["spam", "ham"], ["span"], ["label span is no class", "Did you mean spam?"]),
    ],
)
def test_labels_that_nothing_declares(names, labels, words):
    with pytest.raises(UserError) as caught:
        reading(names, *labels)
    message = str(caught.value)
    assert message.startswith(f"a.csv line {1 + len(labels)}: ")
    assert all(word in message for word in words)
    assert ("Did you mean" in message) == any("Did you mean" in word for word in words)


def test_the_position_of_a_typed_column_is_a_name():
    """A ClassLabel's values are positions by type, whatever its names look like."""
    typed = rows(0, 1, 1, names=["1", "2"])
    classes = find_classes(typed)
    assert list(classes.names) == ["1", "2"]
    assert classes.numbers(typed).tolist() == [0, 1, 1]
    assert classes.numbers(rows("2", "1")).tolist() == [1, 0]
    other_order = rows(0, 1, names=["2", "1"])
    assert classes.numbers(other_order).tolist() == [1, 0]
    with pytest.raises(UserError, match=r"label -1: must be 0 to 1; -1 often marks rows without a label"):
        classes.numbers(rows(0, -1, names=["1", "2"]))


@pytest.mark.parametrize("how", ["names", "positions"])
def test_whoever_says_how_is_heard(how):
    labels = ["1", "2"]
    expected = [0, 1] if how == "names" else [1, 2]
    assert reading(["1", "2", "3"], *labels, how=how) == (how, expected)


def test_positions_and_names_agree_with_the_naive_way():
    """Where every label is a name, its class is where the name stands; else where the number points to."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        names = list(dict.fromkeys(map(str, rng.integers(0, 8, 5))))
        labels = list(map(str, rng.integers(0, len(names), 4)))
        naive = {
            "names": [names.index(label) for label in labels] if set(labels) <= set(names) else None,
            "positions": list(map(int, labels)) if not set(labels) & set(names) else None,
        }
        try:
            how, numbers = reading(names, *labels)
        except UserError:
            assert naive == {"names": None, "positions": None}
        else:
            assert numbers == naive[how]


written = st.sampled_from(
    ["0", "1", "2", "3", "4", "7", "007", "-1", "+1", "1.0", " 1", "01", "2024", "a", "b", "None"]
)


@settings(max_examples=2000, deadline=None, database=None)
@given(st.lists(written, min_size=2, max_size=6), st.none() | st.lists(written, min_size=2, max_size=5, unique=True))
def test_files_of_labels_are_read_as_the_rule_says(labels, names):
    """The rule, as one would write it down: declared names first; then 0 to n - 1 are positions; else names."""
    found = rows(*labels)
    distinct = set(labels)
    if names:
        whole = [float(label) if label not in ("a", "b", "None") else -1.0 for label in labels]
        if distinct <= set(names):
            expected = [names.index(label) for label in labels]
        elif not distinct & set(names) and all(0 <= number < len(names) for number in whole):
            expected = list(map(int, whole))
        else:
            expected = None
    elif distinct <= {"0", "1", "2", "3", "4", " 1", "1.0"} and sorted(map(float, distinct)) == list(
        range(len(distinct))
    ):
        expected = [int(float(label)) for label in labels]
    else:
        expected = "names"
    if expected is None or len(distinct) == 1:
        with pytest.raises(UserError, match="every label is" if len(distinct) == 1 else "is no class"):
            find_classes(found, declared=names)
        return
    classes = find_classes(found, declared=names)
    numbers = classes.numbers(found).tolist()
    if expected == "names":
        assert [classes.names[number] for number in numbers] == labels
        assert sorted(classes.names) == sorted(distinct)
    else:
        assert numbers == expected
