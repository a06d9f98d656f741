"""Labels as numbers, as names and as neither."""

import pytest
from source_files import ROWS, SUFFIXES, folder, load, pairs, refusal, write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_are_sorted(tmp_path, suffix):
    rows = [("a", "Sports"), ("b", "World"), ("c", "Business"), ("d", "World")]
    corpus = load(folder(tmp_path, rows, rows, suffix))
    assert corpus.classes == ["Business", "Sports", "World"]
    assert corpus.test.labels.tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize("labels", [["0", "2"], [0, 2], [0.0, 2.0], ["0.0", " 2"]])
def test_numbers_in_any_dress(tmp_path, labels):
    rows = list(zip(["a", "b"], labels, strict=True))
    corpus = load(folder(tmp_path, rows, rows, ".jsonl"), validation_fraction=0.5)
    assert corpus.classes == ["0", "1", "2"]
    assert corpus.test.labels.tolist() == [0, 2]


def test_truth_values_are_names(tmp_path):
    rows = [("a", True), ("b", False)]
    for suffix in SUFFIXES:
        data = folder(tmp_path / suffix[1:], rows, rows, suffix)
        corpus = load(data, validation_fraction=0.5)
        assert corpus.classes == ["False", "True"]
        assert corpus.test.labels.tolist() == [1, 0]


def test_class_names_from_a_file(tmp_path):
    names = ["World", "Sports", "Business", "Sci/Tech"]
    (tmp_path / "classes.txt").write_text("\r\n".join(names) + "\n\n", newline="")
    corpus = load(folder(tmp_path))
    assert corpus.classes == names
    assert pairs(corpus.test) == ROWS

    named = [(text, names[label]) for text, label in ROWS]
    by_name = load(folder(tmp_path, named, named))
    assert by_name.classes == names
    assert pairs(by_name.test) == ROWS


@pytest.mark.parametrize("content", ["", "One\n", "One\nOne\n", "One\n\nTwo\n"])
def test_bad_class_names(tmp_path, content):
    (tmp_path / "classes.txt").write_text(content)
    assert "classes.txt" in refusal(folder(tmp_path))


def test_labels_must_be_among_the_names_of_the_file(tmp_path):
    (tmp_path / "classes.txt").write_text("One\nTwo\n")
    message = refusal(folder(tmp_path))
    assert f"{tmp_path / 'train.csv'} line 4" in message
    assert "label 2" in message
    assert "0 to 1" in message


@pytest.mark.parametrize(
    ("labels", "row", "words"),
    [
        ([0, 1, -1], 3, ["-1", "0 to"]),
        ([0, None, 1], 2, ["missing"]),
        (["", "World", "Sports"], 1, ["missing"]),
        (["World", " ", "Sports"], 2, ["missing"]),
        ([0.0, float("nan"), 1.0], 2, ["missing"]),
        (["0", "1", "one"], 3, ["one", "number"]),
        (["n/a", "0", "1"], 1, ["n/a", "number"]),
        ([0, 1, 1.5], 3, ["1.5", "number"]),
        ([0, 1, [1]], 3, ["[1]", "number"]),
        ([0, 1, 10**9], 3, ["1000000000", "0 to"]),
        ([0, 1, 10**30], 3, ["0 to"]),
        (["a", "b", 3], 3, ["3", "number"]),
        ([0, 1, "b\nc" * 100], 3, ["b c", "number"]),
        ([1, 1, 1], None, ["every label is 1", "at least 2 classes"]),
        (["a", "a", "a"], None, ["every label is a", "at least 2 classes"]),
    ],
)
def test_bad_training_labels(tmp_path, labels, row, words):
    train = [(f"text {number}", label) for number, label in enumerate(labels)]
    message = refusal(folder(tmp_path, train, ROWS, ".jsonl"))
    place = str(tmp_path / "train.jsonl")
    assert message.startswith(f"{place} line {row}: " if row else f"{place}: ")
    for word in words:
        assert word in message
    assert len(message) < 250 + len(place)


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize(
    ("train", "label", "allowed"),
    [
        ([0, 3], 4, "0 to 3"),
        ([0, 3], -1, "0 to 3"),
        ([0, 3], "one", "0 to 3"),
        (["ham", "spam"], "spm", "spam"),
    ],
)
def test_labels_outside_the_classes(tmp_path, split, train, label, allowed):
    folder(tmp_path, [("a", train[0]), ("b", train[1])], [("c", train[0])])
    path = write(tmp_path / f"{split}.csv", [("c", train[0]), ("d", label)])
    message = refusal(tmp_path)
    assert message.startswith(f"{path} line 3: label {label} ")
    assert allowed in message


def test_a_class_beyond_the_limit_is_a_class(tmp_path):
    """The first training rows may lack a class that the test rows have."""
    corpus = load(folder(tmp_path), limit_train=3, limit_test=4)
    assert corpus.classes == ["0", "1", "2", "3"]
    assert pairs(corpus.test) == ROWS[:4]
    assert sorted(pairs(corpus.train) + pairs(corpus.validation)) == sorted(ROWS[:3])


def test_every_label_that_only_the_test_rows_have_is_named(tmp_path):
    labels = ["ham", "spam", "eggs", "spam", "toast", "eggs"]
    train = [("a", "ham"), ("b", "spam")]
    message = refusal(folder(tmp_path, train, [("c", label) for label in labels]))
    assert message == f"{tmp_path / 'test.csv'} line 4: label eggs is no class, nor are toast. Known: ham, spam."


def test_a_test_split_without_labels(tmp_path):
    """As the hub's GLUE has them."""
    assert "-1 often marks rows without a label" in refusal(folder(tmp_path, ROWS, [("a", -1), ("b", -1)]))


def test_of_many_classes_the_error_names_some(tmp_path):
    train = [(f"text {number}", f"class number {number} " + "x" * 200) for number in range(500)]
    message = refusal(folder(tmp_path, train, [("a", "quite another")]))
    assert "and 480 more" in message
    assert len(message) < 1500


def test_texts_taken_for_labels(tmp_path):
    rows = [(f"text {number}", f"label {number}") for number in range(10_001)]
    message = refusal(folder(tmp_path, rows, rows[:1]))
    assert "has 10,001 different labels, at most 10,000 are allowed" in message
    assert "--data.label_column" in message
