"""`python -m benchmarks.predict`: texts per second of `predict`, beside transformers' text-classification pipeline.

Both have the same random weights and AG News texts on a CPU, run in separate processes and take turns. Tokenizing is
measured on both sides, loading and compiling on neither. Writes `results/predict.{json,md}`.
"""

import argparse
import json
import os
import tempfile
from importlib.metadata import version
from statistics import median
from typing import Any

import numpy as np

from benchmarks.support.our_predictions import PredictionTask
from benchmarks.support.result_files import ResultFiles, add_common, made_line
from benchmarks.support.trial import MODELS, SEED, Record
from benchmarks.support.workers import Sample, Samples, Worker, interleave

DTYPES = ("float32", "bfloat16")
BATCH_SIZES = (8, 32, 128)
TARGET = 2.0
"""The target ratio of the library's speed to the pipeline's with batches of 32."""

AGREE = {"float32": 1e-5, "bfloat16": 0.02}
"""Dtype -> the largest difference allowed between the two sides' probabilities."""


def measure(
    task: PredictionTask, batch_sizes: list[int], repeats: int
) -> tuple[Samples, dict[str, Any], dict[str, Any]]:
    """Measures both sides: samples by contender, the library's facts, the pipeline's facts."""

    def tell(name: str, repeat: int, sample: Sample) -> None:
        speed = f"{sample.texts / sample.seconds:.2f} texts/s ({sample.seconds:.2f} s)"
        print(f"{task.dtype}  {'warm-up' if repeat < 0 else f'repeat {repeat + 1}'}  {name}: {speed}", flush=True)

    how = (True, {"JAX_PLATFORMS": "cpu"})
    with (
        Worker("benchmarks.support.our_predictions:build", (task,), *how) as ours,
        Worker("benchmarks.support.pipeline_predictions:build", (task, batch_sizes), *how) as theirs,
    ):
        probabilities = theirs.facts.pop("probabilities")
        apart = np.abs(ours.facts.pop("probabilities")[: len(probabilities)] - probabilities).max()
        if not apart <= AGREE[task.dtype]:
            raise RuntimeError(f"{task.dtype}: the two sides' probabilities differ by {apart:.1e}")
        return interleave([ours, theirs], repeats, SEED, tell), ours.facts, theirs.facts


def speeds(samples: list[list[float]]) -> list[float]:
    """A contender's texts per second in each repeat."""
    return [texts / seconds for seconds, _, texts in samples]


def page(record: Record) -> str:
    """The page of results in Markdown."""
    settings = record["settings"]
    lines = [
        "# Beside transformers' pipeline",
        "",
        f"Texts a second of `Classifier.predict` and of `pipeline('text-classification')`, GPT-2 {settings['model']},",
        f"on {settings['texts']} AG News texts of at most 256 tokens: the same random weights and texts, tokenizing",
        f"measured, loading and compiling not. All take turns, {settings['repeats']} times after a warm-up; medians",
        "[least - most]. Sorted: by length, beforehand and for nothing, so that hardly anything is padded; a pipeline",
        f"itself doesn't. Asked for: {TARGET:g} times batches of 32. Transformers {record['made']['transformers']},",
        f"PyTorch {record['made']['torch']}; in bfloat16 its weights are cast.",
        "",
        made_line(record),
        "",
        "| dtype | | texts/s | ours over it |",
        "|---|---|---:|---:|",
    ]
    for dtype, entry in record["entries"].items():
        ours = median(speeds(entry["samples"]["ours"]))
        for name, samples in entry["samples"].items():
            every = speeds(samples)
            ratio = "" if name == "ours" else f"{ours / median(every):.2f}"
            lines.append(f"| {dtype} | {name} | {median(every):.2f} [{min(every):.2f} - {max(every):.2f}] | {ratio} |")
    return "\n".join(lines) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--model", default="124M", help=f"of {', '.join(MODELS)}; or a config.json's fields")
    made.add_argument("--texts", type=int, default=256)
    made.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    made.add_argument("--batch_sizes", nargs="+", type=int, default=BATCH_SIZES)
    add_common(made, repeats=5, data="../shared/ag_news")
    return made


def main() -> None:
    """Measures each dtype, and writes the files after each."""
    options = parser().parse_args()
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)
    settings = {name: getattr(options, name) for name in ("model", "texts", "repeats", "data")}
    files = ResultFiles(options.results, "predict", settings, page, None)
    versions = {name: version(name) for name in ("torch", "transformers")}
    body = MODELS[options.model] if options.model in MODELS else json.loads(options.model)
    with tempfile.TemporaryDirectory(prefix="predict-") as folder:
        with Worker(
            "benchmarks.support.pipeline_predictions:save_random",
            (folder, dict(body), options.tokenizer, SEED),
            False,
            {},
        ):
            pass
        for dtype in options.dtypes:
            task = PredictionTask(folder, options.data, options.texts, dtype)
            samples, ours, theirs = measure(task, list(options.batch_sizes), options.repeats)
            entry = {"tokens": ours["tokens"], "threads": theirs["threads"], "samples": samples}
            files.add(dtype, entry, {**ours["on"], **versions})
    print(page(files.record))


if __name__ == "__main__":
    main()
