"""The builtin corpus is the same everywhere, hard enough to tell strategies apart, and easy enough to learn."""

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from tokenizers import ByteLevelBPETokenizer

from flax_agnews.config import DataConfig
from flax_agnews.data import builtin, builtin_words
from flax_agnews.data.sources import Corpus, Texts, load_corpus

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load_corpus(DataConfig(source="builtin"))


def accuracy(train: Texts, test: Texts, **settings) -> float:
    """Test accuracy of logistic regression on TF-IDF features."""
    model = make_pipeline(TfidfVectorizer(**settings), LogisticRegression(max_iter=1000))
    return model.fit(train.texts, train.labels).score(test.texts, test.labels)


def all_texts(corpus: Corpus) -> list[str]:
    return [*corpus.train.texts, *corpus.validation.texts, *corpus.test.texts]


def test_sizes_and_classes(corpus):
    assert corpus.classes == ["World", "Sports", "Business", "Sci/Tech"]
    assert len(corpus.train) + len(corpus.validation) == builtin.TRAIN_ROWS
    assert len(corpus.test) == builtin.TEST_ROWS
    for part in (corpus.train, corpus.validation, corpus.test):
        # Labels are drawn evenly: five standard deviations of a binomial share around a quarter.
        shares = np.bincount(part.labels, minlength=4) / len(part)
        assert np.abs(shares - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / len(part))


def test_the_sketched_sizes_are_reachable():
    corpus = load_corpus(DataConfig(source="builtin", validation_fraction=0.0909))
    assert [len(part) for part in (corpus.train, corpus.validation, corpus.test)] == [4000, 400, 1000]


def test_limits_keep_the_first_rows(corpus):
    limited = load_corpus(DataConfig(source="builtin", limit_train=50, limit_test=7, validation_fraction=0.2))
    assert (len(limited.train), len(limited.validation)) == (40, 10)
    texts, labels = builtin.generate(50)
    assert sorted(limited.train.texts + limited.validation.texts) == sorted(texts)
    assert limited.test.texts == corpus.test.texts[:7]
    assert Counter([*limited.train.labels, *limited.validation.labels]) == Counter(labels)


@pytest.mark.parametrize("hash_seed", ["1", "2"])
def test_the_same_in_another_process(hash_seed):
    program = "from flax_agnews.data.builtin import generate; print(ascii(generate(300)))"
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ascii(builtin.generate(300))


def test_no_text_twice(corpus):
    folded = Counter(" ".join(text.lower().split()) for text in all_texts(corpus))
    assert max(folded.values()) == 1


def test_reads_like_sentences(corpus):
    for text in all_texts(corpus):
        assert text[0].isupper(), text
        assert "  " not in text, text
        assert text == text.strip()
        assert not re.search(r"[{}|;:\n]| [.,]", text), text
        assert not re.search(r"\b(a|an|the) (a|an|the)\b", text, re.IGNORECASE), text
        assert not re.search(r"\ba [aeio]|\ban [^aeiou]", text, re.IGNORECASE), text


def test_every_phrase_is_used(corpus):
    """A phrase with a typo in its separators would never appear as one."""
    text = "\n".join(all_texts(corpus)).lower()
    for topic in (builtin_words.SHARED, *builtin_words.TOPICS):
        for phrase in (part.strip() for part in topic.contexts.split(";")):
            pattern = re.sub(r"\\\{\w+\\\}", r"[\\w ]+", re.escape(phrase.lower()))
            assert re.search(pattern, text), phrase


def test_lengths_vary_around_thirty_tokens(corpus):
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(corpus.train.texts, vocab_size=2048, show_progress=False)
    lengths = np.array([len(found.ids) for found in tokenizer.encode_batch(all_texts(corpus))])
    assert 28 <= lengths.mean() <= 34
    assert 50 <= lengths.max() <= 70
    assert lengths.std() > 8
    assert (lengths < 12).mean() > 0.03


def test_a_bag_of_words_gets_most_but_not_all(corpus):
    train = Texts(
        corpus.train.texts + corpus.validation.texts,
        np.concatenate([corpus.train.labels, corpus.validation.labels]),
    )
    with_pairs = accuracy(train, corpus.test, ngram_range=(1, 2))
    assert 0.85 <= with_pairs <= 0.93
    # The signal is in many common words: neither order nor the long tail of names matters much.
    assert abs(accuracy(train, corpus.test) - with_pairs) < 0.02
    assert accuracy(train, corpus.test, min_df=20) > with_pairs - 0.02
    # And no few words carry it.
    assert accuracy(train, corpus.test, max_features=100) < with_pairs - 0.1


def test_topics_share_their_words(corpus):
    """Of the common words hardly any is found in one class only."""
    rows = [Counter(), Counter(), Counter(), Counter()]
    for text, label in zip(corpus.train.texts, corpus.train.labels, strict=True):
        rows[label].update(set(re.findall(r"\w+", text.lower())))
    common = [word for word in sum(rows, Counter()) if sum(row[word] for row in rows) >= 40]
    found_in_all = [word for word in common if all(row[word] for row in rows)]
    assert len(common) > 300
    assert len(found_in_all) > 0.5 * len(common)


def test_labels_are_noisy_at_the_stated_rate():
    texts, labels = builtin.generate(5000)
    same_texts, true_labels = builtin.generate(5000, noise=0.0)
    assert texts == same_texts
    wrong = np.mean(np.array(labels) != np.array(true_labels))
    deviation = np.sqrt(builtin.NOISE * (1 - builtin.NOISE) / 5000)
    assert abs(wrong - builtin.NOISE) < 4 * deviation
    assert pytest.approx(0.04, abs=0.01) == builtin.NOISE


def test_another_seed_writes_other_stories():
    assert not set(builtin.generate(200)[0]) & set(builtin.generate(200, seed=1)[0])


@pytest.mark.parametrize(
    ("written", "base", "third", "past"),
    [
        ("sign", "sign", "signs", "signed"),
        ("raise", "raise", "raises", "raised"),
        ("study", "study", "studies", "studied"),
        ("destroy", "destroy", "destroys", "destroyed"),
        ("launch", "launch", "launches", "launched"),
        ("win:won", "win", "wins", "won"),
        ("lay:laid off", "lay off", "lays off", "laid off"),
        ("weigh on", "weigh on", "weighs on", "weighed on"),
    ],
)
def test_verbs(written, base, third, past):
    forms = (builtin._base(written), builtin._third_person(written), builtin._past(written))
    assert forms == (base, third, past)
