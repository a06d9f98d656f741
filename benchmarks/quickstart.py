"""`python -m benchmarks.quickstart`: the quickstart beside TF-IDF with logistic regression, the same texts.

Accuracies on the generated corpus of a tiny GPT-2 that starts from nothing: they show that the product works, and say
nothing about GPT-2 or about news.
"""

import argparse
import time

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.support.circumstances import RESULTS, circumstances
from flax_agnews.cli import arguments
from flax_agnews.config import DataConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.experiment.experiment import Experiment
from flax_agnews.report import write_report
from flax_agnews.report.tables import markdown_table
from flax_agnews.system.files import write_atomic


def tfidf_accuracy(data: DataConfig) -> float:
    """Test accuracy of TF-IDF (1, 2-grams) with logistic regression, scikit-learn's defaults."""
    corpus = load_corpus(data)
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    model.fit(corpus.train.texts, corpus.train.labels)
    return float(model.score(corpus.test.texts, corpus.test.labels))


def main() -> None:
    """Runs the quickstart in a fresh output folder, and writes `results/quickstart.{md,png}`."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", default="runs/benchmark-quickstart")
    output = parser.parse_args().output
    request = arguments.parse(["--config", "quickstart", "--output", output])
    started = time.perf_counter()
    experiment = Experiment(request.config, request.entries, overwrite=True)
    results = experiment.run()
    seconds = time.perf_counter() - started
    write_report(experiment.folder.path)
    made, data = circumstances(), results.data
    lines = [
        "# The quickstart",
        __doc__.split("\n\n", 1)[1].strip(),
        f"{made['date']}, commit {made['commit']}, {made['processor']}, JAX {made['jax']}, Python {made['python']}; "
        f"{seconds:.0f} seconds in all, {results.runs[0].cost.pretrain_seconds:.0f} of them language modelling.",
        markdown_table(results),
        f"TF-IDF (1, 2-grams) with logistic regression on the same {data.train:,} texts: "
        f"{tfidf_accuracy(request.config.data):.3f}. Always answering the most frequent class: "
        f"{data.majority_accuracy:.3f}.",
    ]
    write_atomic(RESULTS / "quickstart.md", ("\n\n".join(lines) + "\n").encode())
    write_atomic(RESULTS / "quickstart.png", (experiment.folder.path / "accuracy_curves.png").read_bytes())


if __name__ == "__main__":
    main()
