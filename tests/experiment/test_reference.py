"""The reference's probabilities against scikit-learn's pipeline, and majorities by counting."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from flax_agnews.config import DataConfig
from flax_agnews.data.sources import Corpus, Texts, load_corpus
from flax_agnews.experiment.reference import STRENGTHS, WORDS, Hashes, NoReference, majority, tfidf

HASHES = Hashes("a", "b", "c")


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus(DataConfig(source="builtin", limit_train=120, limit_test=100))


def pipeline(corpus: Corpus, strength: float) -> np.ndarray:
    """Probabilities of the validation and test texts, by another solver."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), token_pattern=WORDS)
    model = make_pipeline(vectors, LogisticRegression(C=strength, tol=1e-9, max_iter=5000))
    with threadpool_limits(1):  # on more, tests beside it slow it down
        model.fit(corpus.train.texts, corpus.train.labels)
    return np.concatenate([model.predict_proba(split.texts) for split in (corpus.validation, corpus.test)])


def test_tfidf_is_scikit_learns_pipeline_at_the_best_strength(corpus: Corpus) -> None:
    found = tfidf(corpus, HASHES)
    assert found is not None
    labels, scores = corpus.validation.labels, []
    for strength, accuracy, loss in found.tried:
        ours = pipeline(corpus, strength)[: len(labels)]
        np.testing.assert_allclose(accuracy, accuracy_score(labels, ours.argmax(1)), atol=1e-9)
        np.testing.assert_allclose(loss, log_loss(labels, ours), rtol=1e-3)
        scores.append((accuracy, -log_loss(labels, ours), strength))
    assert found.settings["C"] == max(scores)[2]
    assert [strength for strength, _, _ in found.tried] == list(STRENGTHS[: len(found.tried)])
    splits = found.predictions.splits
    got = np.concatenate([splits["validation"].probabilities, splits["test"].probabilities])
    np.testing.assert_allclose(got, pipeline(corpus, found.settings["C"]), atol=2e-3)
    assert [splits[name].hash for name in splits] == ["b", "c"]
    again = tfidf(corpus, HASHES)
    assert again is not None
    assert np.array_equal(again.predictions.splits["test"].probabilities, splits["test"].probabilities)


def test_a_class_without_training_texts_has_a_small_probability(corpus: Corpus) -> None:
    found = tfidf(replace(corpus, classes=[*corpus.classes, "absent"]), HASHES)
    assert found is not None
    answers = found.predictions.splits["test"].probabilities
    np.testing.assert_allclose(answers[:, -1], 1 / (len(corpus.train) + 5), rtol=1e-6)
    np.testing.assert_allclose(answers.sum(1), 1, rtol=1e-6)


def test_texts_without_a_reference(corpus: Corpus) -> None:
    labels = corpus.train.labels
    with pytest.raises(NoReference, match="no words"):
        tfidf(replace(corpus, train=Texts(["?!"] * len(labels), labels)), HASHES)
    with pytest.raises(NoReference, match="one class"):
        tfidf(replace(corpus, train=Texts(corpus.train.texts, np.zeros_like(labels))), HASHES)
    with pytest.raises(NoReference, match="50,000 classes"):
        tfidf(replace(corpus, classes=["x"] * 50_000), HASHES)


def test_pairs_are_read_as_one_text_and_a_stop_is_heard(corpus: Corpus) -> None:
    def halves(split: Texts) -> Texts:
        return Texts([(text[: len(text) // 2], text[len(text) // 2 :]) for text in split.texts], split.labels)

    paired = replace(corpus, train=halves(corpus.train), validation=halves(corpus.validation), test=halves(corpus.test))
    found = tfidf(paired, HASHES)
    assert found is not None
    accuracy = (found.predictions.splits["test"].answers == corpus.test.labels).mean()
    assert accuracy > 1.5 * np.bincount(corpus.test.labels).max() / len(corpus.test)
    assert tfidf(corpus, HASHES, stop=lambda: True) is None


def test_the_majority_has_the_training_texts_frequencies(corpus: Corpus) -> None:
    found = majority(corpus, HASHES).predictions.splits["test"]
    for number in range(len(corpus.classes)):
        share = sum(label == number for label in corpus.train.labels.tolist()) / len(corpus.train)
        np.testing.assert_allclose(found.probabilities[:, number], share, rtol=1e-6)
    assert found.probabilities.shape == (len(corpus.test), len(corpus.classes))
