"""The small experiment's texts and tokens, for language modelling on them."""

from pathlib import Path

import pytest

from flax_agnews.cli import arguments
from flax_agnews.data.encoded import Split, encode_corpus
from flax_agnews.data.sources import Corpus, load_corpus
from flax_agnews.data.tokens import Tokenizer, train_tokenizer
from support.small_experiments import BODY, small


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    """The texts of the small experiment."""
    return load_corpus(arguments.parse(small(Path("unused"))).config.data)


@pytest.fixture(scope="module")
def tokenizer(corpus: Corpus) -> Tokenizer:
    return train_tokenizer(corpus.train.texts, BODY["vocab_size"])


@pytest.fixture(scope="module")
def texts(corpus: Corpus, tokenizer: Tokenizer) -> Split:
    return encode_corpus(corpus, tokenizer, 32).train
