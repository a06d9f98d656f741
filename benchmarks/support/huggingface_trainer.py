"""Hugging Face's Trainer as people run it, as an opponent in `benchmarks.vs_pytorch`."""

import gc
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, GPT2Tokenizer, PrinterCallback, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

from benchmarks.support.cuda import synchronize, within_memory
from benchmarks.support.workers import MEGABATCH, NotMeasured, Sample, Settings
from flax_agnews.data.encoded import Split

SKIPPED = 2
"""Number of first updates that don't count: what they need is loaded and chosen then."""

COPIES = 4
"""How often each text is in the data: Trainer sorts `MEGABATCH` batches at once where there are four times as many."""


def by_length_setting() -> dict[str, Any]:
    """The argument that groups texts by length, which transformers 5 has renamed."""
    known = {field.name for field in fields(Arguments)}
    return {"group_by_length": True} if "group_by_length" in known else {"train_sampling_strategy": "group_by_length"}


class HuggingFaceTrainer:
    """Trains new models by Trainer, with its defaults.

    Args:
        make_model: makes a model.
        settings: settings of the benchmark.
        data: the training texts.
        bfloat16: whether to compute by autocast in bfloat16.
        device: PyTorch's device.
    """

    def __init__(
        self, make_model: Callable[[], torch.nn.Module], settings: Settings, data: Split, bfloat16: bool, device: str
    ) -> None:
        self._make_model, self._settings, self._device = make_model, settings, device
        self._tokenizer = GPT2Tokenizer.from_pretrained(settings.tokenizer)
        self._tokenizer.pad_token = self._tokenizer.eos_token
        rows = [*range(settings.texts)] * COPIES
        texts, labels = [data.tokens[row].tolist() for row in rows], data.labels[rows].tolist()
        masks = [[1] * len(text) for text in texts]
        self._texts = Dataset.from_dict({"input_ids": texts, "attention_mask": masks, "labels": labels})
        self._chosen: dict[str, Any] = {"bf16": bfloat16, "use_cpu": device == "cpu"}

    def measure(self, repeat: int, by_length: bool) -> Sample:
        """Measures the updates on a megabatch, without the first ones.

        Args:
            repeat: number of the repeat, the seed of the texts' order.
            by_length: whether texts are grouped by length.

        Raises:
            NotMeasured: a library is missing, or the device's memory doesn't suffice.
        """
        try:
            with tempfile.TemporaryDirectory(prefix="trainer-") as folder, within_memory():
                return self._train(folder, repeat, by_length_setting() if by_length else {})
        except ImportError as error:
            raise NotMeasured(str(error).strip().splitlines()[0]) from error
        finally:
            gc.collect()
            if self._device != "cpu":
                torch.cuda.empty_cache()

    def _train(self, folder: str, repeat: int, sampling: Mapping[str, Any]) -> Sample:
        collator, clock = _CountingCollator(DataCollatorWithPadding(self._tokenizer)), _Clock(self._device)
        arguments = Arguments(
            output_dir=folder,
            per_device_train_batch_size=self._settings.batch_size,
            max_steps=MEGABATCH,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            seed=self._settings.seed + repeat + 1,
            **self._chosen,
            **sampling,
        )
        trainer = Trainer(
            self._make_model(), arguments, data_collator=collator, train_dataset=self._texts, callbacks=[clock]
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        counted = collator.batches[SKIPPED:MEGABATCH]  # a further one may have been fetched
        return Sample(clock.ended - clock.started, sum(tokens for tokens, _ in counted), sum(n for _, n in counted))


class _CountingCollator:
    """A collator that counts the real tokens and the texts of each batch."""

    def __init__(self, collator: Callable[[Any], Any]) -> None:
        self._collator = collator
        self.batches: list[tuple[int, int]] = []

    def __call__(self, texts: Sequence[Mapping[str, Any]]) -> Any:
        self.batches.append((sum(len(text["input_ids"]) for text in texts), len(texts)))
        return self._collator(texts)


class _Clock(TrainerCallback):
    """Reads the clock after the updates that don't count, and after the last one."""

    def __init__(self, device: str) -> None:
        self._device, self.started, self.ended = device, 0.0, 0.0

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Called by Trainer after each update."""
        if state.global_step in (SKIPPED, state.max_steps):
            synchronize(self._device)
            now = time.perf_counter()
            self.started, self.ended = (now, now) if state.global_step == SKIPPED else (self.started, now)
