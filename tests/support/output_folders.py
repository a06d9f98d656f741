"""Output folders of made-up experiments, with the files that a report reads."""

import copy
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from flax_agnews.data.checks import DataCheck, Finding
from flax_agnews.metrics.scores import confusion_record
from flax_agnews.runs.checks_file import write_checked
from flax_agnews.runs.predictions import write_predictions
from flax_agnews.runs.references import folder_of_reference, write_reference
from flax_agnews.system.files import write_yaml
from support.made_predictions import predictions, reference
from support.report_results import make

Run = tuple[str, int]

TRAIN = {"epochs": 3, "batch_size": 32, "schedule": "linear", "seed": 42, "runs": 3, "micro_batch_tokens": 16384}
FULL, HEAD = [0.9, 0.88, 0.91], [0.7, 0.72, 0.69]


def experiment(**scores: list[float]) -> dict[str, Any]:
    """The content of results.json of an experiment with what version 0.2 knows of data, body and strategies."""
    results = make(scores or {"full": FULL, "head": HEAD})
    results["data"] |= {"hash": "d" * 64, "class_texts": [2000, 1960], "test": 1000, "validation": 200}
    results["model"] |= {"base": "b" * 64, "start": None}
    results["settings"] = dict(TRAIN)
    results["environment"] = {"jax": "0.10.2", "devices": "1 x cpu"}
    for run in results["runs"]:
        run["settings"] = {"learning_rate": 0.001, "top_layers": None}
        test = kept_of(run).splits["test"]
        run["test_confusion"] = confusion_record(test.labels, test.answers, 2)
    return results


def kept_of(run: dict[str, Any], texts: str = "texts") -> Any:
    """The predictions of a run: its test accuracy exactly; others with another strategy or seed."""
    return predictions(run["test_accuracy"], [*run["strategy"].encode(), run["seed"]], texts)


def output_folder(
    path: Path, results: dict[str, Any], runs: Iterable[Run] | None = None, texts: str = "texts", **settings: Any
) -> Path:
    """Writes a folder with some of an experiment's runs, by default all.

    Args:
        path: the new folder.
        results: the content of its results.json.
        runs: strategies and seeds of the runs that it has.
        texts: hash of its validation and test texts.
        settings: sections of its config.yaml, or `config=False` for none.
    """
    path.mkdir()
    results = copy.deepcopy(results)
    results["runs"] = [run for run in results["runs"] if runs is None or (run["strategy"], run["seed"]) in runs]
    (path / "results.json").write_text(json.dumps(results))
    names = ",".join(dict.fromkeys(run["strategy"] for run in results["runs"]))
    if settings.pop("config", True):
        write_yaml(path / "config.yaml", {"strategy": names, "train": results["settings"], **settings})
    for run in results["runs"]:
        place = path / run["strategy"] / f"seed-{run['seed']}"
        place.mkdir(parents=True)
        (place / "result.json").write_text(json.dumps(run))
        (place / "identity.json").write_text("{}")
        write_predictions(place / "predictions.parquet", kept_of(run, texts))
    return path


def with_data_files(folder: Path) -> Path:
    """The same folder, with a reference and data checks."""
    write_reference(folder_of_reference(folder, "tfidf"), reference(0.75, "tfidf"))
    check = DataCheck(kind="same", split="test", other="train", texts=2, examples=[])
    write_checked(folder, [Finding(check, np.array([3, 5]))])
    return folder
