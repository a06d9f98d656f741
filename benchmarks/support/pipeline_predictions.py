"""The other side of `benchmarks.predict`: transformers' text-classification pipeline, with several batchings."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2ForSequenceClassification, GPT2Tokenizer, pipeline
from transformers.utils import logging

from benchmarks.support.our_predictions import PredictionTask
from benchmarks.support.workers import Built, Sample

CLASSES = 4


def save_random(folder: str, fields: Mapping[str, Any], tokenizer: str, seed: int) -> Built:
    """Writes a classifier with random weights, and its tokenizer, for `pipeline`."""
    logging.set_verbosity_error()
    torch.manual_seed(seed)
    words = GPT2Tokenizer.from_pretrained(tokenizer)
    words.pad_token = words.eos_token
    config = GPT2Config(**{**fields, "num_labels": CLASSES, "pad_token_id": words.pad_token_id})
    model = GPT2ForSequenceClassification(config)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    return Built({}, {"parameters": sum(p.numel() for p in model.parameters())})


def build(task: PredictionTask, batch_sizes: Sequence[int]) -> Built:
    """The pipeline's contenders: one text at a time, and batches of texts in random order and sorted by length."""
    logging.set_verbosity_error()
    torch.set_num_threads(os.cpu_count() or 1)
    tokenizer = AutoTokenizer.from_pretrained(task.model)
    tokenizer.padding_side = "right"
    kind = getattr(torch, task.dtype)
    model = GPT2ForSequenceClassification.from_pretrained(task.model, dtype=kind, use_cache=False).eval()
    classify: Any = pipeline("text-classification", model=model, tokenizer=tokenizer, device="cpu")
    texts = task.read()
    lengths = [len(ids) for ids in tokenizer(texts, truncation=True, max_length=task.max_length)["input_ids"]]
    by_length = [texts[place] for place in np.argsort(lengths, kind="stable")]

    def contender(texts: Sequence[str], size: int) -> Callable[[int], Sample]:
        def measure(repeat: int) -> Sample:
            started = time.perf_counter()
            answers = classify(list(texts), batch_size=size, truncation=True, max_length=task.max_length)
            assert len(answers) == len(texts)
            return Sample(time.perf_counter() - started, sum(lengths), len(texts))

        return measure

    contenders = {"one by one": contender(texts, 1)}
    for size in batch_sizes:
        contenders[f"batches of {size}"] = contender(texts, size)
        contenders[f"sorted, batches of {size}"] = contender(by_length, size)
    scores = classify(texts[:32], top_k=None, truncation=True, max_length=task.max_length)
    ids = model.config.label2id
    ordered = [{ids[one["label"]]: one["score"] for one in every} for every in scores]
    facts = {
        "probabilities": np.array([[one[k] for k in range(len(one))] for one in ordered]),
        "threads": torch.get_num_threads(),
        "tokens": sum(lengths),
    }
    return Built(contenders, facts)
