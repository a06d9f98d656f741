"""The library's side of `benchmarks.predict`: its classifier, with the weights and texts of both sides."""

import time
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from benchmarks.support.workers import Built, Sample
from flax_agnews.config import DataConfig, ModelConfig
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import load_tokenizer
from flax_agnews.models.pretrained import load_base
from flax_agnews.strategies import REGISTRY
from flax_agnews.trained.classifier import Classifier
from flax_agnews.training.adapted_model import adapt_model
from flax_agnews.training.inference import Inference


@dataclass(frozen=True)
class PredictionTask:
    """The texts that both sides classify, and the weights that they use.

    Attributes:
        model: directory of a GPT2ForSequenceClassification and its tokenizer, as transformers saves them.
        data: directory of the data set.
        texts: number of texts drawn from the test split.
        dtype: "float32" or "bfloat16".
        max_length: most tokens of a text.
        seed: seed of the draw.
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


def load(task: PredictionTask) -> Classifier:
    """Loads the weights as a classifier that `full` has trained."""
    model = ModelConfig(name=task.model, dtype=task.dtype, precision="highest")  # PyTorch's default
    head = load_file(f"{task.model}/model.safetensors")
    base, score = load_base(model), head["score.weight"].T
    entry = REGISTRY["full"]
    adapted = adapt_model(entry.build(entry.settings(), base.config), base, score.shape[1], model)
    params = {path: jnp.asarray(value) for path, value in {**base.parameters, "score/kernel": score}.items()}
    names = [str(number) for number in range(score.shape[1])]
    tokenizer = load_tokenizer(task.model)
    return Classifier("benchmark", names, task.max_length, DataConfig(), tokenizer, Inference(adapted, params, {}))


def build(task: PredictionTask) -> Built:
    """The library's contender; its warm-up compiles."""
    texts, classifier = task.read(), load(task)
    tokens = int(load_tokenizer(task.model).encode(texts, task.max_length).lengths.sum())

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
