"""Cheap classifiers on an experiment's own rows, that a fine-tuned model should beat.

TF-IDF with logistic regression is the usual strong baseline of text classification (Wang and Manning 2012, "Baselines
and Bigrams: Simple, Good Sentiment and Topic Classification"). It trains on the training rows alone, as strategies do,
and the strength of its regularisation is chosen on the validation rows; it isn't trained again on both.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flax_agnews.data.encoded import Data
from flax_agnews.data.rows import Text
from flax_agnews.data.sources import Corpus
from flax_agnews.data.tokens import digest_of
from flax_agnews.runs.predictions import Predictions, SplitPredictions
from flax_agnews.runs.references import MAJORITY, TFIDF, Reference

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""Values of C, the inverse strength of the regularisation, tried in this order until the validation loss rises."""

USUAL = 10.0  # where there is no time to try
WORDS = r"(?u)\b\w+\b"
FEATURES = 100_000
_COEFFICIENTS = 2_000_000  # features x classes
_QUICK, _MOST = 500_000, 3_000_000  # training rows x classes: up to here all values are tried in a minute; one value
_METHOD = "1"  # goes up where other code makes other predictions


class NoReference(Exception):
    """There is no such classifier of these texts; the message says why."""


@dataclass(frozen=True)
class Hashes:
    """SHA-256 of the texts and labels of each split."""

    train: str
    validation: str
    test: str

    @classmethod
    def of(cls, data: Data) -> "Hashes":
        """Those of tokenized data."""
        return cls(data.train.hash, data.validation.hash, data.test.hash)


def key_of(name: str, classes: Sequence[str], hashes: Hashes) -> str:
    """Hash of everything that decides a reference's predictions, but for versions of libraries."""
    return digest_of(name, _METHOD, *classes, hashes.train, hashes.validation, hashes.test)


def majority(corpus: Corpus, hashes: Hashes) -> Reference:
    """The class frequencies of the training texts as the probabilities of every text."""
    started, shares = time.perf_counter(), frequencies(corpus.train.labels, len(corpus.classes))

    def answers(split: Any) -> np.ndarray:
        return np.broadcast_to(shares, (len(split), len(shares)))

    return Reference(
        key=key_of(MAJORITY, corpus.classes, hashes),
        seconds=time.perf_counter() - started,
        parameters=len(corpus.classes),
        settings={},
        tried=[],
        predictions=_predictions(corpus, hashes, answers(corpus.validation), answers(corpus.test)),
    )


def frequencies(labels: np.ndarray, classes: int) -> np.ndarray:
    """Share of each class, [classes] float64; with a text added to each (Laplace) where one has none."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    counts += 0 if counts.all() else 1
    return counts / counts.sum()


def tfidf(corpus: Corpus, hashes: Hashes, stop: Callable[[], bool] = lambda: False) -> Reference | None:
    """TF-IDF of words and pairs of words with logistic regression; None if `stop` said so.

    Args:
        corpus: the texts; of a pair, both are read as one.
        hashes: the hashes of its splits.
        stop: asked between the trials.

    Raises:
        NoReference: the training texts have no words or one class, or there are too many classes.
    """
    from threadpoolctl import threadpool_limits  # slow to import with scikit-learn, whose dependency it is

    with threadpool_limits(1):  # the same bits on any number of cores, and short vectors are quicker on one
        return _tfidf(corpus, hashes, stop)


def _tfidf(corpus: Corpus, hashes: Hashes, stop: Callable[[], bool]) -> Reference | None:
    started, features = time.perf_counter(), _features(corpus)
    splits = {"train": corpus.train, "validation": corpus.validation, "test": corpus.test}
    labels = {name: split.labels for name, split in splits.items()}
    quick = len(corpus.train) * len(corpus.classes) <= _QUICK
    found = regression(features, labels, len(corpus.classes), STRENGTHS if quick else [USUAL], "newton-cg", stop)
    if found is None:
        return None
    return Reference(
        key=key_of(TFIDF, corpus.classes, hashes),
        seconds=time.perf_counter() - started,
        parameters=found.parameters,
        settings={"C": found.strength, "ngrams": [1, 2], "features": features["train"].shape[1]},
        tried=found.tried,
        predictions=_predictions(corpus, hashes, found.answers["validation"], found.answers["test"]),
    )


@dataclass(frozen=True)
class Regression:
    """A logistic regression whose regularisation was chosen on validation.

    Attributes:
        strength: the chosen C.
        parameters: number of its scalars.
        tried: [C, validation accuracy, validation loss] of each value that was tried.
        answers: `validation` and `test` -> probabilities, [texts, classes].
    """

    strength: float
    parameters: int
    tried: list[list[float]]
    answers: dict[str, np.ndarray]


def regression(
    features: Mapping[str, Any],
    labels: Mapping[str, np.ndarray],
    classes: int,
    strengths: Sequence[float],
    solver: str,
    stop: Callable[[], bool] = lambda: False,
) -> Regression | None:
    """Fits a logistic regression with ascending C until the validation loss rises; None if `stop` said so.

    Args:
        features, labels: `train`, `validation`, `test` -> [texts, features] and class numbers [texts].
        classes: number of classes; some may have no training texts.
        strengths: values of C.
        solver: scikit-learn's name of the optimiser.
        stop: asked before each fit.
    """
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(solver=solver, tol=1e-6, max_iter=200, warm_start=True)
    shares = frequencies(labels["train"], classes)
    best, chosen, tried = (-1.0, 0.0), (0.0, dict[str, np.ndarray]()), list[list[float]]()
    for value in strengths:  # ascending: each begins at the solution of the one before
        if stop():
            return None
        model.set_params(C=value).fit(features["train"], labels["train"])
        found = _filled(model, features["validation"], shares)
        accuracy, loss = _scores(labels["validation"], found)
        if (accuracy, -loss) > best:
            best = accuracy, -loss
            chosen = value, {"validation": found, "test": _filled(model, features["test"], shares)}
        tried.append([value, accuracy, loss])
        if len(tried) > 1 and loss > tried[-2][2]:  # accuracy alone is too noisy to say when to stop
            break
    return Regression(chosen[0], model.coef_.size + model.intercept_.size, tried, chosen[1])


def _features(corpus: Corpus) -> dict[str, Any]:
    """TF-IDF vectors of the three splits' texts, sparse [texts, features]; the weights are those of training texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    rows, present, classes = len(corpus.train), len(np.unique(corpus.train.labels)), len(corpus.classes)
    if present < 2:
        raise NoReference("all training texts have one class")
    if rows * classes > _MOST:
        raise NoReference(f"{rows:,} training texts x {classes:,} classes would take minutes")
    most = max(1, min(FEATURES, _COEFFICIENTS // classes))
    vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORDS, max_features=most)
    try:
        first = vectors.fit_transform(_strings(corpus.train.texts))
    except ValueError:  # an empty vocabulary
        raise NoReference("the training texts have no words") from None
    others = {"validation": corpus.validation, "test": corpus.test}
    return {"train": first} | {name: vectors.transform(_strings(split.texts)) for name, split in others.items()}


def _strings(texts: Sequence[Text]) -> list[str]:
    return [text if isinstance(text, str) else "\n".join(text) for text in texts]


def _filled(model: Any, vectors: Any, shares: np.ndarray) -> np.ndarray:
    """Probabilities of all classes, [texts, classes]; those without training texts get that of one more text each."""
    known = model.predict_proba(vectors)
    absent = np.setdiff1d(np.arange(len(shares)), model.classes_)
    found = np.empty((len(known), len(shares)))
    found[:, model.classes_] = known * (1 - shares[absent].sum())
    found[:, absent] = shares[absent]
    return found


def _scores(labels: np.ndarray, probabilities: np.ndarray) -> tuple[float, float]:
    """Accuracy and mean loss, nats a text."""
    given = probabilities[np.arange(len(labels)), labels]
    accuracy = float((probabilities.argmax(1) == labels).mean())
    return accuracy, float(-np.log(np.maximum(given, np.finfo(np.float32).tiny)).mean())


def _predictions(corpus: Corpus, hashes: Hashes, validation: np.ndarray, test: np.ndarray) -> Predictions:
    parts = {
        "validation": SplitPredictions(hashes.validation, corpus.validation.labels, validation.astype(np.float32)),
        "test": SplitPredictions(hashes.test, corpus.test.labels, test.astype(np.float32)),
    }
    return Predictions(corpus.classes, parts)
