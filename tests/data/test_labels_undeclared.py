"""Labels without declared class names are read as positions or names; other labels are an error."""

import pytest
from support.source_files import ROWS, SUFFIXES, folder, load, pairs, refusal, write


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_names_are_sorted(tmp_path, suffix):
    rows = [("a", "Sports"), ("b", "World"), ("c", "Business"), ("d", "World")]
    corpus = load(folder(tmp_path, rows, rows, suffix))
    assert corpus.classes == ["Business", "Sports", "World"]
    assert corpus.test.labels.tolist() == [1, 2, 0, 2]


@pytest.mark.parametrize("labels", [["0", "2", "1"], [0, 2, 1], [0.0, 2.0, 1.0], ["0.0", " 2", "1"]])
def test_numbers_in_any_dress(tmp_path, labels):
    rows = list(zip(["a", "b", "c"], labels, strict=True))
    corpus = load(folder(tmp_path, rows, rows, ".jsonl"), validation_fraction=0.5)
    assert corpus.classes == ["0", "1", "2"]
    assert corpus.test.labels.tolist() == [0, 2, 1]
    assert "labels are class numbers" in corpus.notes


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (["007", "010", "7"], ["007", "7", "010"]),
        (["2024", "2019", "2021"], ["2019", "2021", "2024"]),
        ([2024, 2019, 2021], ["2019", "2021", "2024"]),
        (["-1", "1"], ["-1", "1"]),
        ([-1, 1], ["-1", "1"]),
        (["10115", "01067", "9"], ["9", "01067", "10115"]),
        (["sports", "politics", "2024"], ["2024", "politics", "sports"]),
        (["1", "2", "3", "4"], ["1", "2", "3", "4"]),
        (["0", "2"], ["0", "2"]),
        (["00", "01"], ["00", "01"]),
        (["0", "1", "1.0"], ["0", "1", "1.0"]),
        (["+0", "1"], ["+0", "1"]),
        (["0", "1", "1e999"], ["0", "1", "1e999"]),
        ([0, 1, 10**30], ["0", "1", "1" + "0" * 30]),
        (["None", "true", "null", "NaN"], ["NaN", "None", "null", "true"]),
    ],
)
def test_codes_are_names_as_written(tmp_path, labels, classes):
    rows = [(f"text {label}", label) for label in labels]
    suffix = ".csv" if isinstance(labels[0], str) else ".jsonl"
    corpus = load(folder(tmp_path, rows, rows, suffix), validation_fraction=0.5)
    assert corpus.classes == classes
    assert [corpus.classes[number] for number in corpus.test.labels] == list(map(str, labels))
    assert any(note.startswith("labels are class names") for note in corpus.notes)


def test_what_may_be_meant_otherwise_is_noted(tmp_path):
    for name, labels, note in [
        ("twins", ["007", "7", "8"], "007 and 7 are two classes"),
        ("minus", ["-1", "0", "1"], "-1 is a class, too"),
        ("codes", ["7", "8"], "numbers, but not 0 to n - 1"),
        ("words", ["0", "1", "sports"], "labels are class names, numbers among them"),
    ]:
        rows = [("a", label) for label in labels]
        (found,) = load(folder(tmp_path / name, rows, rows), validation_fraction=0.5).notes
        assert note in found


@pytest.mark.parametrize(("used", "classes"), [(range(20), 20), ([*range(18), 19], 20), ([*range(15), 19], 16)])
def test_nearly_all_numbers_in_use_are_positions(tmp_path, used, classes):
    rows = [("a", number) for number in used]
    corpus = load(folder(tmp_path, rows, rows))
    assert len(corpus.classes) == classes
    if classes == 20:
        assert corpus.test.labels.tolist() == list(used)


def test_the_setting_decides(tmp_path):
    rows = [("a", "0"), ("b", "02"), ("c", "3.0")]
    data = folder(tmp_path, rows, rows)
    as_positions = load(data, labels="positions")
    assert as_positions.classes == ["0", "1", "2", "3"]
    assert as_positions.test.labels.tolist() == [0, 2, 3]
    as_names = load(data, labels="names")
    assert as_names.classes == ["0", "02", "3.0"]
    assert as_names.test.labels.tolist() == [0, 1, 2]


@pytest.mark.parametrize("label", ["x", "-1", "10000", "1.5"])
def test_positions_that_are_none(tmp_path, label):
    rows = [("a", "0"), ("b", label)]
    message = refusal(folder(tmp_path, rows, rows), labels="positions")
    assert f"train.csv line 3: label {label}: must be 0 to 9999" in message


@pytest.mark.parametrize("labels", [["0.5", "1.5"], [0.5, 1.5], ["0", "1", "1.5"], [0, 1, 1.5], ["1e-3", "1"]])
def test_numbers_between_whole_ones_ask_for_regression(tmp_path, labels):
    rows = [("a", label) for label in labels]
    suffix = ".csv" if isinstance(labels[0], str) else ".jsonl"
    message = refusal(folder(tmp_path, rows, rows, suffix))
    assert "is a regression meant?" in message
    assert "--data.labels names" in message
    assert load(tmp_path, labels="names", validation_fraction=0.5).classes == [
        str(label) for label in sorted(labels, key=float)
    ]


def test_versions_are_names_among_words(tmp_path):
    rows = [("a", "1.5"), ("b", "new")]
    assert load(folder(tmp_path, rows, rows), validation_fraction=0.5).classes == ["1.5", "new"]


def test_truth_values_are_names(tmp_path):
    rows = [("a", True), ("b", False)]
    for suffix in SUFFIXES:
        data = folder(tmp_path / suffix[1:], rows, rows, suffix)
        corpus = load(data, validation_fraction=0.5)
        assert corpus.classes == ["False", "True"]
        assert corpus.test.labels.tolist() == [1, 0]


@pytest.mark.parametrize("content", ["", "One\n", "One\nOne\n", "One\n\nTwo\n"])
def test_bad_class_names(tmp_path, content):
    (tmp_path / "classes.txt").write_text(content)
    assert "classes.txt" in refusal(folder(tmp_path))


@pytest.mark.parametrize(
    ("labels", "row", "words"),
    [
        ([0, None, 1], 2, ["missing"]),
        (["", "World", "Sports"], 1, ["missing"]),
        (["World", " ", "Sports"], 2, ["missing"]),
        ([0.0, float("nan"), 1.0], 2, ["missing"]),
        ([0, 1, [1]], 3, ["[1]", "number"]),
        ([0, 1, {"b": "c" * 100}], 3, ["{'b'", "number"]),
        ([0, 1, float("inf")], 3, ["inf", "number"]),
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
        ([0, 1], 2, "Classes: 0 to 1"),
        ([0, 1], -1, "Classes: 0 to 1; -1 often marks rows without a label"),
        ([0, 1], "one", "Classes: 0 to 1"),
        ([0, 3], 1, "Known: 0, 3. --data.labels positions reads labels as class numbers"),
        ([2, 3], -1, "Known: 2, 3; -1 often marks rows without a label"),
        (["ham", "spam"], "spm", "Did you mean spam?"),
        (["ham", "spam"], 1, "Known: ham, spam."),
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
