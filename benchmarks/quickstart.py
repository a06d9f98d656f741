"""`python -m benchmarks.quickstart`: the quickstart beside TF-IDF with logistic regression, the same texts.

Accuracies on the generated corpus of a tiny GPT-2 that has learned the corpus' language: they show that the product
works, and say nothing about GPT-2 or about news.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.support.circumstances import RESULTS, circumstances
from flax_agnews.cli import arguments
from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.experiment.reference import Hashes, tfidf
from flax_agnews.report import read_answer, read_results
from flax_agnews.report.tables import markdown_table
from flax_agnews.system.files import write_atomic


def tfidf_accuracy(data: DataConfig) -> float:
    """Test accuracy of the package's reference, TF-IDF (1, 2-grams) with logistic regression."""
    corpus = load_corpus(data)
    found = tfidf(corpus, Hashes("", "", ""))
    assert found is not None
    return float((found.predictions.splits["test"].answers == corpus.test.labels).mean())


def timed(output: Path, cache: Path) -> str:
    """Runs the command in a process of its own; returns its seconds, and its processor's."""
    command = [
        sys.executable,
        "-m",
        "flax_agnews.main",
        "--config",
        "quickstart",
        "--output",
        str(output),
        "--overwrite",
    ]
    before, started = _processor_seconds(), time.perf_counter()
    subprocess.run(command, env={**os.environ, "FLAX_AGNEWS_CACHE": str(cache)}, check=True)
    return f"{time.perf_counter() - started:.0f} seconds ({_processor_seconds() - before:.0f} of processor time)"


def _processor_seconds() -> float:
    """Processor time of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Runs the quickstart twice, with an empty cache and a full one, and writes `results/quickstart.{md,png}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/benchmark-quickstart"))
    output = parser.parse_args().output
    with TemporaryDirectory() as cache:
        cold, warm = timed(output, Path(cache)), timed(output, Path(cache))
    made, results = circumstances(), read_results(output)
    data = arguments.parse(["--config", "quickstart"]).config.data
    more = replace(data, limit_train=None, validation_fraction=0.0909)
    lines = [
        "# The quickstart",
        __doc__.split("\n\n", 1)[1].strip(),
        f"{made['date']}, commit {made['commit']}, {made['processor']}, JAX {made['jax']}, Python {made['python']}. "
        f"The whole command: {cold}; again, with what it cached: {warm}.",
        markdown_table(read_answer(output, results)),
        f"TF-IDF (1, 2-grams) with logistic regression on the same {results.data.train:,} texts: "
        f"{tfidf_accuracy(data):.3f}, on 4,000 texts: {tfidf_accuracy(more):.3f}. Always answering the most frequent "
        f"class: {results.data.majority_accuracy:.3f}.",
    ]
    write_atomic(RESULTS / "quickstart.md", ("\n\n".join(lines) + "\n").encode())
    write_atomic(RESULTS / "quickstart.png", (output / "accuracy_curves.png").read_bytes())


if __name__ == "__main__":
    main()
