"""The command `evaluate`: its table, its JSON, and hostile texts as plain short lines."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest
from scipy.special import softmax
from sklearn import metrics
from support.answers import TEST, classifier, logits, run

from flax_agnews.evaluate import main as evaluate_main
from flax_agnews.trained.classifier import Classifier

__all__ = ["classifier", "logits", "run"]  # fixtures


@pytest.mark.parametrize("kind", ["names", "numbers"])
def test_the_command_prints_a_table_and_writes_json(
    run: Path, classifier: Classifier, logits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    path, out = tmp_path / "data.jsonl", tmp_path / "found.json"
    labels = [classifier.classes[n] if kind == "names" else int(n) for n in TEST.labels]
    path.write_text("".join(json.dumps({"t": t, "l": n}) + "\n" for t, n in zip(TEST.texts, labels, strict=True)))
    flags = ["--data", str(path), "--text_column", "t", "--label_column", "l", "--json", str(out), "--mistakes", "3"]
    assert evaluate_main([str(run), *flags]) == 0
    found, told = json.loads(out.read_text()), capsys.readouterr().out
    answers = logits.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(TEST.labels, answers))
    assert found["run"] == "full/seed-42"
    wrong = np.flatnonzero(answers != TEST.labels)
    worst = wrong[np.argsort(-softmax(logits[wrong], axis=1).max(axis=1), kind="stable")][:3]
    assert [mistake["place"] for mistake in found["mistakes"]] == [f"line {n + 1}" for n in worst]
    assert [mistake["answer"] for mistake in found["mistakes"]] == [classifier.classes[n] for n in answers[worst]]
    assert f"{found['accuracy']:.4f}" in told
    assert f"{found['temperature']:.3f}" in told
    assert all(name in told for name in classifier.classes)


@pytest.mark.parametrize("layout", ["file", "shards", "saved"])
def test_a_folder_is_evaluated_by_its_test_split(
    run: Path, classifier: Classifier, logits: np.ndarray, tmp_path: Path, layout: str
) -> None:
    """Rows without a label are left out; the place of a mistake names its file where there are several."""
    kinds = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=classifier.classes))
    labels = [-1 if place % 7 == 0 else int(label) for place, label in enumerate(TEST.labels)]
    test = datasets.Dataset.from_dict({"text": TEST.texts, "label": labels}, features=kinds)
    other = datasets.Dataset.from_dict({"text": ["x"], "label": [0]}, features=kinds)
    if layout == "saved":
        datasets.DatasetDict(train=other, test=test).save_to_disk(tmp_path / "data")
    else:
        count = 2 if layout == "shards" else 1
        for number in range(count):
            name = "test" if count == 1 else f"test-{number:05}-of-{count:05}"
            test.shard(count, number).to_parquet(tmp_path / "data" / f"{name}.parquet")
        other.to_parquet(tmp_path / "data" / "train.parquet")
    out = tmp_path / "found.json"
    assert evaluate_main([str(run), "--data", str(tmp_path / "data"), "--json", str(out)]) == 0
    found, kept = json.loads(out.read_text()), np.array(labels) >= 0
    assert found["texts"] == kept.sum()
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(TEST.labels[kept], logits.argmax(axis=1)[kept]))
    [place] = {mistake["place"].rpartition(" row ")[0] for mistake in found["mistakes"][:1]}
    assert place.startswith(str(tmp_path / "data")) or layout == "saved"


def test_hostile_texts_are_shown_as_plain_short_lines(
    run: Path, classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "[bold]x[/bold] \x1b[31m\x07 [/] \r\n" + "y" * 500
    answer = classifier.predict([text]).labels[0]
    other = next(name for name in classifier.classes if name != answer)
    path = tmp_path / "data.jsonl"
    path.write_text(json.dumps({"text": text, "label": other}))
    assert evaluate_main([str(run), "--data", str(path), "--json", str(tmp_path / "found.json")]) == 0
    told = capsys.readouterr().out
    assert "[bold]x[/bold]" in "".join(told.split())
    assert not {"\x1b", "\x07", "\r"} & set(told)
    [mistake] = json.loads((tmp_path / "found.json").read_text())["mistakes"]
    assert len(mistake["text"]) == 200
    assert mistake["text"].isprintable()
