"""Our side of `benchmarks.predict`: a classifier of the library, on weights and texts that both sides share."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from benchmarks.harness import Built, Sample
from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import load_tokenizer
from flax_agnews.models.pretrained import load_base
from flax_agnews.strategies import REGISTRY
from flax_agnews.trained.classifier import Classifier
from flax_agnews.training.adapted_model import adapt_model
from flax_agnews.training.inference import Inference


@dataclass(frozen=True)
class Asked:
    """What both sides answer, and with which weights.

    Attributes:
        model: directory of a GPT2ForSequenceClassification and its tokenizer, as transformers saves them.
        data: directory of the texts.
        texts: how many, drawn from the test split.
        dtype: "float32" or "bfloat16".
        max_length: most tokens of a text.
        seed: of the draw.
    """

    model: str
    data: str
    texts: int
    dtype: Literal["float32", "bfloat16"]
    max_length: int = 256
    seed: int = 42

    def read(self) -> list[str]:
        """The texts, in random order."""
        every = load_corpus(DataConfig(source=self.data, limit_train=2)).test.texts
        chosen = np.random.default_rng(self.seed).choice(len(every), self.texts, replace=self.texts > len(every))
        return [every[number] for number in chosen]


def load(asked: Asked) -> Classifier:
    """The classifier: everything trains, so that all weights are the run's own."""
    model, head = ModelConfig(name=asked.model, dtype=asked.dtype), load_file(f"{asked.model}/model.safetensors")
    base, score = load_base(model), head["score.weight"].T
    entry = REGISTRY["full"]
    adapted = adapt_model(entry.build(entry.settings(), base.config), base, score.shape[1], model)
    params = {path: jnp.asarray(value) for path, value in {**base.parameters, "score/kernel": score}.items()}
    names = [str(number) for number in range(score.shape[1])]
    reads = load_tokenizer(asked.model)
    return Classifier("benchmark", names, asked.max_length, DataConfig(), reads, Inference(adapted, params, {}))


def build(asked: Asked) -> Built:
    """Our contender. Its warm-up compiles."""
    texts, classifier = asked.read(), load(asked)
    tokens = int(classifier._tokenizer.encode(texts, asked.max_length).lengths.sum())

    def measure(repeat: int) -> Sample:
        started = time.perf_counter()
        classifier.predict(texts).probabilities.sum()
        return Sample(time.perf_counter() - started, tokens, len(texts))

    facts: dict[str, Any] = {
        "on": {"backend": jax.default_backend(), "device": jax.devices()[0].device_kind},
        "probabilities": classifier.predict(texts).probabilities,
        "tokens": tokens,
    }
    return Built({"ours": measure}, facts)
