"""A classifier's own answers, read again as labels, are all right, whatever its classes are called (contract 13).

And a run that was made before `data.labels` reads its labels as it did.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score
from support.small_experiments import twice_optimized
from support.source_files import write

from flax_agnews import main
from flax_agnews.config import DataConfig
from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.experiment.progress import silent
from flax_agnews.runs.output_folder import OutputFolder
from flax_agnews.trained.classifier import Classifier
from flax_agnews.trained.evaluation import evaluate
from flax_agnews.trained.streaming import answer_file

BEFORE = Path(__file__).parent / "made_before"
"""A run of the version before `data.labels`: labels 1 to 4, classes.txt 1 to 5; its labels are positions there."""

TEXTS = [
    "river forest the",
    "goal match",
    "price shares of",
    "chip orbit a",
    "the",
    "of a",
    "match price",
    "goal the of",
]

digits = st.sampled_from(["0", "1", "2", "3", "4", "5", "-1", "1.0", "01", "00", "+1", "1e0", "1_000", "٣"])
words = st.sampled_from(
    ["None", "true", "null", "NaN", "a,b", 'say "a"', " a", "a ", "🏈", "=1+1", "p_a", "label", "a\tb"]
)
# Not half of a surrogate pair, which UTF-8 has no bytes for; not blank, which is no label.
anything = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=5).filter(str.strip)
names_of_classes = st.lists(digits | words | anything, min_size=5, max_size=5, unique=True)


@pytest.fixture(scope="module")
def before(tmp_path_factory):
    """The run in a folder of its own, where its data is, too."""
    return shutil.copytree(BEFORE, tmp_path_factory.mktemp("made") / "before")


@pytest.fixture(scope="module")
def loaded(before):
    return Classifier.load(before / "run")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_own_answers_are_all_right(loaded, tmp_path, suffix):
    source = write(tmp_path / f"texts{suffix}", [(text,) for text in TEXTS], columns=("text",))
    target, display = tmp_path / f"answers{suffix}", silent()
    assert len(set(loaded.predict(TEXTS).labels)) > 2

    @settings(max_examples=150, deadline=None, database=None)
    @given(names_of_classes)
    def check(names):
        classifier = Classifier("head", names, loaded.max_length, DataConfig(), loaded._tokenizer, loaded._inference)
        answer_file(classifier, source, target, ["text"], "", display)
        found = evaluate(classifier, target, ["text"], "label", display)
        assert found.texts == len(TEXTS)
        assert found.accuracy == 1.0

    check()


def test_positions_in_training_are_names_afterwards(tmp_path, capsys):
    """Labels 0 to 3 with classes.txt of 1 to 4, read as positions: what predict writes is what evaluate reads."""
    rng = np.random.default_rng(0)
    rows = [(" ".join(rng.choice(TEXTS, 3)), int(rng.integers(4))) for _ in range(60)]
    for split in ("train", "test"):
        write(tmp_path / f"{split}.csv", rows)
    (tmp_path / "classes.txt").write_text("1\n2\n3\n4\n")
    body = {"vocab_size": 280, "n_positions": 32, "n_embd": 8, "n_layer": 1, "n_head": 1}
    flags = ["--model.from_config", json.dumps(body), "--data.source", str(tmp_path), "--data.max_length", "24"]
    flags += ["--train.epochs", "1", "--train.runs", "1", "--train.shapes", "1", "--strategy", "head"]
    flags += ["--output", str(tmp_path / "run"), "--tracking.wandb", "disabled"]
    assert main.main(flags) == 2
    assert "--data.labels positions" in capsys.readouterr().err
    assert main.main([*flags, "--data.labels", "positions"]) == 0
    assert "labels are positions among the 4 declared names" in capsys.readouterr().out
    classifier = Classifier.load(tmp_path / "run")
    assert classifier.classes == ["1", "2", "3", "4"]
    own = tmp_path / "own.csv"
    answer_file(classifier, tmp_path / "test.csv", own, ["text"], "my_", silent())
    assert evaluate(classifier, own, ["text"], "my_label", silent()).accuracy == 1.0
    test = [str(tmp_path / "run"), "--data", str(tmp_path / "test.csv")]
    assert evaluate_main(test) == 2
    assert "--labels names, or --labels positions" in capsys.readouterr().err
    out = tmp_path / "out.json"
    assert evaluate_main([*test, "--labels", "positions", "--json", str(out)]) == 0
    answers = classifier.predict([text for text, _ in rows]).numbers
    assert json.loads(out.read_text())["accuracy"] == pytest.approx(np.mean(answers == [label for _, label in rows]))


# Runs made before


def test_a_run_made_before_reads_its_labels_as_it_did(before, loaded):
    lines = (before / "data" / "test.csv").read_text().splitlines()[1:]
    texts, labels = zip(*(line.rsplit(",", 1) for line in lines), strict=True)
    positions = [int(label) for label in labels]
    answers = loaded.predict(list(texts)).numbers
    found = evaluate(loaded, before / "data" / "test.csv", ["text"], "label", silent())
    recorded = json.loads((before / "run" / "head" / "seed-42" / "result.json").read_text())
    assert found.accuracy == pytest.approx(np.mean(answers == positions)) == pytest.approx(recorded["test_accuracy"])
    assert found.macro_f1 == pytest.approx(f1_score(positions, answers, average="macro"))
    by_name = evaluate(loaded, before / "data" / "test.csv", ["text"], "label", silent(), labels="names")
    assert by_name.accuracy == pytest.approx(np.mean([loaded.classes[n] for n in answers] == np.array(labels)))


def test_a_run_made_before_goes_on(before, monkeypatch, capsys):
    """A further seed reads the labels as the first did; the folder says so from then on."""
    monkeypatch.chdir(before)
    config = OutputFolder(before / "run").config
    assert config.data.labels == "legacy"
    flags = ["--config", "run/config.yaml", "--train.runs", "2", "--data.labels", "auto", "--output", "run"]
    text = Path("run/config.yaml").read_text()
    assert "labels" not in text
    assert "2 of 2 runs were done before" in twice_optimized(flags, before)
    assert "labels: legacy" in Path("run/config.yaml").read_text()
    results = json.loads(Path("run/results.json").read_text())
    assert results["data"]["classes"] == list("12345")
    assert [sum(map(sum, run["test_confusion"])) for run in results["runs"]] == [40, 40]
    assert main.main([*flags[:-4], "--data.labels", "names", "--output", "run"]) == 2
    assert "data.labels was legacy, now names" in capsys.readouterr().err
