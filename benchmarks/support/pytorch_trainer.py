"""PyTorch's side of `benchmarks.vs_pytorch`, in a worker process: transformers' GPT-2 and PEFT, padded in several ways.

It uses the faster option, or the default of Hugging Face's Trainer: SDPA attention, fused AdamW, no key/value cache, no
gradient clipping.
"""

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from peft import PromptTuningConfig, TaskType, get_peft_model
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2Model
from transformers.trainer_pt_utils import get_length_grouped_indices
from transformers.utils import logging

from benchmarks.support.cuda import synchronize, within_memory
from benchmarks.support.huggingface_trainer import HuggingFaceTrainer
from benchmarks.support.workers import (
    MEGABATCH,
    WARM_UP,
    Built,
    NotMeasured,
    Sample,
    Settings,
    Suite,
    batches_per_repeat,
)
from flax_agnews.config import DataConfig
from flax_agnews.data.encoded import Split, encode_corpus
from flax_agnews.data.sources import load_corpus
from flax_agnews.data.tokens import Tokenizer, load_tokenizer

PROMPT_TOKENS = 20
LEARNING_RATES = {"full": 5e-5, "prompt": 5e-4, "partial": 5e-5}

QUANTILES = (0.1, 0.3, 0.5, 0.2, 0.4)
"""Quantiles of a megabatch sorted by length; each repeat takes the batches at one of them and at its mirror image."""

Rows = Mapping[int, Sequence[Sequence[int]]]
"""Repeat -> for each of its batches, the indices of the texts."""


def load_split(settings: Settings) -> tuple[Split, Tokenizer]:
    """Reads the training texts, the same as the library's side, and the tokenizer."""
    tokenizer = load_tokenizer(settings.tokenizer)
    corpus = load_corpus(DataConfig(source=settings.data, limit_train=settings.limit_train, limit_test=1))
    return encode_corpus(corpus, tokenizer, settings.max_length).train, tokenizer


def make_model(settings: Settings, strategy: str, classes: int, padding: int) -> torch.nn.Module:
    """Loads the body's weights with a new head, and freezes the parameters that the strategy doesn't train."""
    _quiet()
    model = GPT2ForSequenceClassification.from_pretrained(
        settings.model,
        num_labels=classes,
        pad_token_id=padding,
        attn_implementation="sdpa",
        use_cache=False,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        resid_pdrop=0.0,
    )
    if strategy == "prompt":
        prompt = PromptTuningConfig(task_type=TaskType.SEQ_CLS, num_virtual_tokens=PROMPT_TOKENS)
        with warnings.catch_warnings():  # PEFT reads an attribute that transformers has renamed
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            return get_peft_model(model, prompt)
    if strategy == "partial":
        body = model.transformer
        for part in (body.wte, body.wpe, *body.h[: len(body.h) // 2]):
            part.requires_grad_(False)
    return model


class Trainer:
    """Complete training steps of one model, shared by all ways of padding.

    Args:
        settings: settings of the benchmark.
        suite: strategy and precision ("bfloat16" is autocast).
        data: the training texts.
        padding: id of the padding token.
        device: PyTorch's device.
    """

    def __init__(self, settings: Settings, suite: Suite, data: Split, padding: int, device: str) -> None:
        classes = int(data.labels.max()) + 1
        self.data, self.padding, self.device = data, padding, device
        self.model = make_model(settings, suite.strategy, classes, padding).train().to(device)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        rate = LEARNING_RATES[suite.strategy]
        self.optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, fused=True)
        self.bfloat16 = suite.precision == "bfloat16"

    def collate(self, rows: Sequence[int], width: int | None) -> dict[str, torch.Tensor]:
        """A batch of texts padded on the right, or cut, to a width; by default that of the longest text."""
        texts = [self.data.tokens[row][:width] for row in rows]
        width = width or max(map(len, texts))
        ids = np.full((len(texts), width), self.padding, np.int64)
        mask = np.zeros((len(texts), width), np.int64)
        for index, text in enumerate(texts):
            ids[index, : len(text)], mask[index, : len(text)] = text, 1
        arrays = {"input_ids": ids, "attention_mask": mask, "labels": self.data.labels[rows].astype(np.int64)}
        tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
        if self.device == "cpu":
            return tensors
        return {name: each.pin_memory().to(self.device, non_blocking=True) for name, each in tensors.items()}

    def step(self, rows: Sequence[int], width: int | None = None) -> float:
        """One training step, loss read back; arguments as of `update`."""
        return self.update(rows, width).item()

    def update(self, rows: Sequence[int], width: int | None = None, model: Any = None) -> torch.Tensor:
        """One training step: forward, backward, AdamW; the loss stays on the device until it is read.

        Args:
            rows: indices of the texts.
            width: as in `collate`.
            model: the same model, compiled; by default uncompiled.
        """
        batch = self.collate(rows, width)
        with self._autocast():
            loss = (self.model if model is None else model)(**batch).loss
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()

    def measure(self, batches: Sequence[Sequence[int]], width: int | None = None, model: Any = None) -> Sample:
        """Trains on batches, one after the other, and measures the time until their losses are read.

        Raises:
            NotMeasured: the device's memory doesn't suffice.
        """
        synchronize(self.device)
        started = time.perf_counter()
        with within_memory():
            losses = torch.stack([self.update(rows, width, model) for rows in batches]).tolist()
            synchronize(self.device)
        seconds = time.perf_counter() - started
        assert np.isfinite(losses).all(), f"the losses are {losses}"
        rows = [row for batch in batches for row in batch]
        return Sample(seconds, int(np.minimum(self.data.tokens.lengths[rows], width or np.inf).sum()), len(rows))

    def _autocast(self) -> AbstractContextManager[Any]:
        kind = self.device.split(":")[0]
        return torch.autocast(kind, dtype=torch.bfloat16) if self.bfloat16 else nullcontext()


def grouped(lengths: np.ndarray, batch_size: int, repeats: int, seed: int, each: int = 2) -> dict[int, list[list[int]]]:
    """Batches grouped by length as in Hugging Face's Trainer, from one megabatch of random texts.

    A repeat has pairs of batches, at a quantile of the megabatch and at its mirror image, so that their texts have
    about the average length; the warm-up has the batch with the longest texts.

    Args:
        lengths: [texts] number of tokens of each text.
        batch_size, repeats: texts in a batch, number of repeats.
        seed: of the choice of texts.
        each: number of batches in a repeat.
    """
    size = MEGABATCH * batch_size
    chosen = np.random.default_rng(seed).permutation(len(lengths))[:size]
    generator = torch.Generator().manual_seed(seed)
    order = get_length_grouped_indices(lengths[chosen].tolist(), batch_size, MEGABATCH, generator)
    batches = [chosen[order[start : start + batch_size]].tolist() for start in range(0, size, batch_size)]
    places = [int(MEGABATCH * QUANTILES[pair % len(QUANTILES)]) for pair in range(repeats * each // 2)]
    every = [batches[number] for place in places for number in (place, MEGABATCH - 1 - place)]
    measured = {repeat: every[repeat * each : (repeat + 1) * each] for repeat in range(repeats)}
    return {WARM_UP: [batches[min(min(place, MEGABATCH - 1 - place) for place in places)]], **measured}


FEW = 8
"""Texts per update where a fixed width is measured only to compute the whole experiment's time."""


def ways(settings: Settings, suite: Suite) -> dict[str, int | None]:
    """Name -> width of padding, None for the batch's longest text.

    Fixed widths take minutes per repeat, so that they are measured in some suites only.
    """
    widest, half = settings.max_length, settings.max_length // 2
    widths = {"full-float32": (widest, half), "prompt-float32": (widest,), "partial-float32": (widest,)}
    fixed = widths.get(str(suite), (half,) if suite.strategy == "full" else ())
    return {**{f"pad {width}": width for width in fixed}, "dynamic": None}


def build(settings: Settings, suite: Suite, rows: Rows, backend: str) -> Built:
    """PyTorch's contenders.

    Args:
        settings, suite: settings of the benchmark, strategy and precision.
        rows: texts of the library's batches; the first of each repeat is padded in every way.
        backend: JAX's backend; with "gpu", PyTorch uses CUDA, and `OPTIONAL` contenders are measured too.
    """
    torch.set_num_threads(os.cpu_count() or 1)
    torch.set_float32_matmul_precision("highest")  # PyTorch's default: float32, without TF32
    torch.manual_seed(settings.seed)
    data, tokenizer = load_split(settings)
    trainer = Trainer(settings, suite, data, tokenizer.end_of_text, "cuda" if backend == "gpu" else "cpu")
    each = batches_per_repeat(backend)
    by_length = grouped(data.tokens.lengths, settings.batch_size, settings.repeats, settings.seed, each)
    contenders: dict[str, Callable[[int], Sample]] = {
        name: _contender(trainer, _padded(rows, suite, width, backend), width)
        for name, width in ways(settings, suite).items()
    }
    contenders["length-grouped"] = _contender(trainer, by_length, None)
    if settings.measures("torch.compile", backend):
        contenders["length-grouped, torch.compile"] = compiled(trainer, by_length, settings.compile_limit)
    if settings.measures("trainer", backend) and suite.strategy == "full":
        new = partial(make_model, settings, suite.strategy, int(data.labels.max()) + 1, tokenizer.end_of_text)
        huggingface = HuggingFaceTrainer(new, settings, data, trainer.bfloat16, trainer.device)
        contenders["trainer"] = partial(huggingface.measure, by_length=False)
        contenders["trainer, length-grouped"] = partial(huggingface.measure, by_length=True)
    facts = {
        "on": {"threads": torch.get_num_threads()},
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "mean_tokens": {
            name: float(np.minimum(data.tokens.lengths, width or np.inf).mean())
            for name, width in ways(settings, suite).items()
        },
    }
    return Built(contenders, facts)


def _padded(rows: Rows, suite: Suite, width: int | None, backend: str) -> Rows:
    """The first half of each repeat's batches.

    On a CPU with few texts for the warm-up, and for fixed widths that have no target.
    """
    few = backend == "cpu" and width is not None and suite.strategy != "full"
    warm = {WARM_UP: [rows[WARM_UP][0][: FEW if backend == "cpu" else None]]}
    half = {r: batches[: len(batches) // 2] for r, batches in rows.items() if r != WARM_UP}
    return warm | {r: [batch[: FEW if few else None] for batch in batches] for r, batches in half.items()}


def _contender(trainer: Trainer, rows: Rows, width: int | None) -> Callable[[int], Sample]:
    return lambda repeat: trainer.measure(rows[repeat], width)


def compiled(trainer: Trainer, rows: Rows, limit: float) -> Callable[[int], Sample]:
    """The contender compiled by `torch.compile`, which is left out if that fails or takes too long.

    Args:
        trainer: its model is compiled.
        rows: the batches; in the warm-up one of every width, the warm-up's first.
        limit: most seconds of the warm-up.
    """
    model = torch.compile(trainer.model, dynamic=True)  # else every width is compiled separately
    lengths = trainer.data.tokens.lengths
    first: dict[int, Sequence[int]] = {}
    for batch in [batch for batches in [rows[WARM_UP], *rows.values()] for batch in batches]:
        first.setdefault(int(lengths[batch].max()), batch)

    def measure(repeat: int) -> Sample:
        if repeat != WARM_UP:
            return trainer.measure(rows[repeat], None, model)
        started = time.perf_counter()
        for batch in first.values():
            sample = trainer.measure([batch], None, model)
            if time.perf_counter() - started > limit:
                raise NotMeasured(f"torch.compile was not done after {limit:.0f} s")
        return sample

    def reasoned(repeat: int) -> Sample:
        try:
            return measure(repeat)
        except NotMeasured:
            raise
        except Exception as error:  # compilers stop with errors of many kinds
            raise NotMeasured(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}") from error

    return reasoned


def save_random(folder: str, fields: Mapping[str, Any], seed: int) -> Built:
    """Saves a GPT-2 with random weights by transformers, for both sides."""
    _quiet()
    torch.manual_seed(seed)
    model = GPT2Model(GPT2Config(**fields))
    model.save_pretrained(folder)
    return Built({}, {"parameters": sum(p.numel() for p in model.parameters())})


def _quiet() -> None:
    """Hides progress bars of reading and writing weights, and the warning that the head is new."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
