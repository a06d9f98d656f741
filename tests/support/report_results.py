"""Made-up results of an experiment, and a reader of the Markdown tables made from them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from markdown_it import MarkdownIt

from flax_agnews.report.answer import Answer, answer
from flax_agnews.runs.result_files import results_from, run_from
from flax_agnews.runs.results import COSTS, Results, json_of, summary

HOSTILE = "a|b *c* _d_ `e` <b>&lt; [x](y) $z$ ~~s~~ \\ ![i](j)"


def make(
    accuracies: dict[str, list[float]], epochs: int = 3, classes: tuple[str, ...] = ("World", "Sports")
) -> dict[str, Any]:
    """Results in which strategy s reached `accuracies[s][k]` with seed 42 + k."""
    rng = np.random.default_rng(0)
    runs = []
    for number, (strategy, scores) in enumerate(accuracies.items(), start=1):
        for k, score in enumerate(scores):
            curves = np.clip(score + rng.normal(0, 0.01, (2, epochs)), 0, 1)
            confused = rng.integers(0, 50, (len(classes), len(classes)))
            run = {
                "strategy": strategy,
                "seed": 42 + k,
                "test_accuracy": score,
                "test_loss": 0.2,
                "test_macro_f1": score - 0.01,
                "test_confusion": confused.tolist(),
                "train_accuracy": curves[0].tolist(),
                "val_accuracy": curves[1].tolist(),
                "train_loss": rng.uniform(0.1, 0.9, epochs).tolist(),
                "val_loss": rng.uniform(0.1, 0.9, epochs).tolist(),
                "best_epoch": int(curves[1].argmax()) + 1,
                "trainable_parameters": 912_384 // number,
                "total_parameters": 912_384,
                "cost": {cost: float(rng.uniform(1, 1000)) for cost in COSTS},
            }
            runs.append(run)
    data = {"source": "builtin", "classes": list(classes), "train": 3960, "validation": 440, "test": 1000}
    return {
        "schema": 1,
        "flax_agnews": "0.1.0",
        "data": data | {"tokens_per_text": 31.2, "longest": 58, "truncated": 0, "majority_accuracy": 0.26},
        "model": {"name": "gpt2", "layers": 3, "width": 128, "parameters": 900_000, "dtype": "float32"},
        "pretrain": None,
        "environment": {"jax": "0.10.2"},
        "settings": {"train": {"epochs": epochs}},
        "runs": runs,
        "summary": json_of(summary(map(run_from, runs))),
    }


def ended_early(results: dict[str, Any], epochs: list[int]) -> dict[str, Any]:
    """The same, with runs that ended after so many epochs, in order."""
    for run, last in zip(results["runs"], epochs, strict=True):
        run["stopped_early"] = last < len(run["val_accuracy"])
        for curve in ("train_accuracy", "val_accuracy", "train_loss", "val_loss"):
            run[curve] = run[curve][:last]
        run["best_epoch"] = int(np.argmax(run["val_accuracy"])) + 1
    return results


def parsed(results: dict[str, Any]) -> Results:
    """The content of results.json as the program has it; what was changed in it before has passed the checks."""
    return results_from(json.loads(json.dumps(results)))


def answer_of(results: dict[str, Any]) -> Answer:
    """The answer of results whose runs have kept no predictions."""
    return answer(parsed(results))


THREE = {"full": [0.93, 0.94, 0.935], "prompt": [0.87, 0.88, 0.86], "partial": [0.94, 0.945, 0.95]}


def save(folder: Path, results: Any) -> Path:
    (folder / "results.json").write_text(json.dumps(results), encoding="utf-8")
    return folder


def page_tables(page: str) -> list[list[list[str]]]:
    """The tables of a Markdown page as a reader sees them: tables, rows, cells as plain text."""
    found: list[list[list[str]]] = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page):
        if token.type == "table_open":
            found.append([])
        elif token.type == "tr_open":
            found[-1].append([])
        elif token.type == "inline" and token.level >= 4 and found:
            parts = token.children or []
            found[-1][-1].append("".join(part.content for part in parts) if _is_text(parts) else "MARKUP")
    return found


def _is_text(parts: list[Any]) -> bool:
    return all(part.type in ("text", "text_special") for part in parts)
