"""Whether the predictions that an experiment's runs left have the scores in results.json, by scikit-learn."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss

from support.small_experiments import results


def file_of(output: Path, strategy: str, seed: int) -> Path:
    return output / strategy / f"seed-{seed}" / "predictions.parquet"


def assert_scores_of_predictions(output: Path, strategies: list[str]) -> None:
    """Of every run; exact accuracies and confusion matrices, and losses to the rounding of float32."""
    found = results(output)
    assert {run["strategy"] for run in found["runs"]} == {*strategies}
    classes = list(range(len(found["data"]["classes"])))
    for run in found["runs"]:
        frame = pq.ParquetFile(file_of(output, run["strategy"], run["seed"])).read().to_pandas()
        assert len(frame) == found["data"]["validation"] + found["data"]["test"]
        best = run["best_epoch"] - 1
        expected = {
            "validation": (run["val_accuracy"][best], run["val_loss"][best]),
            "test": (run["test_accuracy"], run["test_loss"]),
        }
        for split, (accuracy, loss) in expected.items():
            rows = frame[frame["split"] == split]
            assert rows["text"].tolist() == list(range(found["data"][split]))
            chances = np.stack(rows["probabilities"]).astype(np.float64)
            answers = chances.argmax(axis=1)
            assert accuracy_score(rows["label"], answers) == accuracy
            chances /= chances.sum(axis=1, keepdims=True)  # rounded to float32, they sum to 1 within 1e-7
            assert log_loss(rows["label"], chances, labels=classes) == pytest.approx(loss, rel=2e-6)
        assert confusion_matrix(rows["label"], answers, labels=classes).tolist() == run["test_confusion"]
