"""An output folder as an experiment leaves it, of made-up predictions from which all scores follow."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import f1_score

from flax_agnews.data.checks import DataCheck, Example, Finding
from flax_agnews.data.rows import Origins, Text
from flax_agnews.data.sources import Texts
from flax_agnews.metrics.scores import confusion_record
from flax_agnews.report.answer import Answer, read_answer
from flax_agnews.runs.checks_file import write_checked
from flax_agnews.runs.predictions import NAME, Predictions, SplitPredictions, write_predictions
from flax_agnews.runs.references import MAJORITY, TFIDF, Reference, folder_of_reference, write_reference
from flax_agnews.runs.result_files import read_results, run_from
from flax_agnews.runs.results import json_of, summary
from flax_agnews.runs.texts_file import write_texts
from support.report_results import make

CLASSES = ("World", "Sports", "Business", "Sci/Tech")
HASHES = {"validation": "v", "test": "t"}


def labels_of(texts: dict[str, int], classes: int = 4) -> dict[str, np.ndarray]:
    """Name of a split -> class numbers of its texts."""
    rng = np.random.default_rng(18)
    return {split: rng.integers(0, classes, count).astype(np.int32) for split, count in texts.items()}


def answered(labels: dict[str, np.ndarray], classes: Sequence[str], skill: float, seed: int) -> Predictions:
    """Probabilities of one run; some texts are hard for all runs."""
    splits = {}
    for split, of in labels.items():
        hard = np.random.default_rng(len(of)).normal(0, 1.3, (len(of), len(classes)))
        noise = np.random.default_rng(seed).normal(0, 0.6, hard.shape)
        logits = hard + noise + skill * np.eye(len(classes))[of]
        powers = np.exp(logits)
        splits[split] = SplitPredictions(HASHES[split], of, (powers / powers.sum(1, keepdims=True)).astype(np.float32))
    return Predictions(list(classes), splits)


def output_folder(
    folder: Path,
    skills: dict[str, float],
    seeds: int = 3,
    texts: int = 120,
    classes: Sequence[str] = CLASSES,
    contents: Sequence[Text] | None = None,
    keep: bool = True,
) -> Path:
    """Writes results.json, and what lies beside it.

    Args:
        folder: an empty folder.
        skills: strategy -> how well it does.
        seeds, texts: number of each strategy's seeds, and of test texts; there are half as many validation texts.
        classes: names of the classes.
        contents: the test texts; by default made-up ones.
        keep: whether predictions, references, texts and the texts of data checks are kept.
    """
    labels = labels_of({"validation": texts // 2, "test": texts}, len(classes))
    found = make({name: [0.0] * seeds for name in skills}, classes=tuple(classes))
    for run in found["runs"]:
        predictions = answered(labels, classes, skills[run["strategy"]], 100 * len(run["strategy"]) + run["seed"])
        test = predictions.splits["test"]
        run["test_accuracy"] = float((test.answers == test.labels).mean())
        run["test_macro_f1"] = float(f1_score(test.labels, test.answers, average="macro"))
        chances = test.probabilities.astype(np.float64)
        run["test_loss"] = float(-np.log(chances[np.arange(texts), test.labels]).mean())
        run["test_confusion"] = confusion_record(test.labels, test.answers, len(classes))
        if keep:
            path = folder / run["strategy"] / f"seed-{run['seed']}" / NAME
            path.parent.mkdir(parents=True, exist_ok=True)
            write_predictions(path, predictions)
    found["data"] |= {"validation": texts // 2, "test": texts}
    if keep:
        found["checks"] = json_of(_beside(folder, labels, classes, contents))
    found["summary"] = json_of(summary(map(run_from, found["runs"])))
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")
    return folder


def answer_of(folder: Path) -> Answer:
    return read_answer(folder, read_results(folder))


def _beside(
    folder: Path, labels: dict[str, np.ndarray], classes: Sequence[str], contents: Sequence[Text] | None
) -> list[DataCheck]:
    """Writes references, texts and checks; returns the checks."""
    tfidf = answered(labels, classes, 1.0, 7)
    about = {"key": "", "seconds": 1.5, "parameters": 321, "settings": {"C": 3.0}, "tried": [[3.0, 0.8, 0.5]]}
    write_reference(folder_of_reference(folder, TFIDF), Reference(predictions=tfidf, **about))
    shares = np.full(len(classes), (1 - 0.4) / (len(classes) - 1), np.float32)
    shares[0] = 0.4
    same = {split: SplitPredictions(HASHES[split], of, np.tile(shares, (len(of), 1))) for split, of in labels.items()}
    write_reference(
        folder_of_reference(folder, MAJORITY),
        Reference(predictions=Predictions(list(classes), same), **{**about, "settings": {}}),
    )
    splits = {}
    for split, of in labels.items():
        made = [f"{split} text {number} of {classes[label]}" for number, label in enumerate(of)]
        origins = Origins((f"{split}.csv",), np.zeros(len(of), np.int32), np.arange(1, len(of) + 1))
        splits[split] = Texts(list(contents) if contents and split == "test" else made, of, origins)
    write_texts(folder, splits, HASHES)
    numbers = np.array([2, 5, 11])
    where = [Example(text=int(k), where=splits["test"].origins.at(k), other=f"train.csv row {k + 40}") for k in numbers]
    checks = [
        DataCheck(kind="empty", split="train", texts=0, examples=[]),
        DataCheck(kind="alike", split="test", other="train", texts=len(numbers), examples=where),
    ]
    write_checked(folder, [Finding(check, numbers) for check in checks[1:]])
    return checks
