"""Trials: configurations that are measured in separate processes, which take turns."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from benchmarks.support.workers import Sample, Worker, interleave

# Nothing here imports JAX: a worker imports its parent's modules before its environment is set.

MODELS: Mapping[str, Mapping[str, int]] = {"124M": {}, "mini": {"n_layer": 4, "n_embd": 256, "n_head": 4}}
"""Name of a model -> fields of its config.json. All have random weights and GPT-2's vocabulary: tokens are the same."""

SEED = 42
"""Seed of the batches, and of the order in which processes take turns."""

Record = Mapping[str, Any]
"""The content of a JSON file of results, or a part of it."""


@dataclass(frozen=True)
class Trial:
    """A configuration to measure: a strategy, a model and texts.

    Attributes:
        strategy: name of the strategy.
        model: a name in `MODELS`, or fields of config.json as JSON.
        batch_size: texts per update.
        dtype: type of matrix products.
        shapes: most compiled shapes.
        without: name of the saving that is turned off; None for all savings.
        seeds: number of seeds that train together.
        runs: number of runs whose batches (five epochs each) are planned.
        rows: number of rows of the training file to read; by default enough for 20 batches.
        mean_length: mean number of tokens to which texts are cut again; None leaves them as they are.
        max_length: most tokens of a text when it is read.
        dropout: rate of all dropouts.
        micro_batch_tokens: most tokens that are computed at once; None for the library's default.
        attention: implementation of attention.
        data, tokenizer: directories of the data set and of the tokenizer.
    """

    strategy: str = "full"
    model: str = "124M"
    batch_size: int = 32
    dtype: str = "float32"
    shapes: int = 2
    without: str | None = None
    seeds: int = 1
    runs: int = 3
    rows: int | None = None
    mean_length: float | None = None
    max_length: int = 256
    dropout: float = 0
    micro_batch_tokens: int | None = None
    attention: str = "auto"
    data: str = "../shared/ag_news"
    tokenizer: str = "../shared/gpt2_tokenizer"

    @property
    def body(self) -> Mapping[str, Any]:
        """Fields of config.json."""
        return MODELS[self.model] if self.model in MODELS else json.loads(self.model)

    @property
    def json(self) -> str:
        """The model's config.json."""
        return json.dumps({"model_type": "gpt2", **self.body})

    @property
    def model_text(self) -> str:
        """The model as a table names it."""
        body = self.body
        return self.model if self.model in MODELS else f"{body.get('n_layer', 12)} x {body.get('n_embd', 768)}"

    @property
    def label(self) -> str:
        """The trial's name among others: every field that doesn't have its default."""
        default = asdict(Trial())
        changed = [f"{k} {v}" for k, v in asdict(self).items() if v != default[k] and k not in ("data", "tokenizer")]
        return ", ".join(changed) or "default"


@dataclass(frozen=True)
class Result:
    """The measured steps of a trial, and facts about it.

    Attributes:
        facts: facts besides speed, from the trial's process.
        samples: the measured step of each repeat.
    """

    facts: dict[str, Any]
    samples: Sequence[Sample]

    @property
    def record(self) -> dict[str, Any]:
        """Medians over the steps, and the facts, as in the JSON file."""
        rates = [sample.tokens / sample.seconds for sample in self.samples]
        return {
            "tokens_per_second": median(rates),
            "least": min(rates),
            "most": max(rates),
            "texts_per_second": median(sample.texts / sample.seconds for sample in self.samples),
            "flops_per_second": median(
                flops / sample.seconds for flops, sample in zip(self.facts["flops"], self.samples, strict=True)
            ),
            **{name: value for name, value in self.facts.items() if name not in ("flops", "on")},
            "samples": self.samples,
        }


@contextmanager
def started(trial: Trial, repeats: int, cpu: bool = False, folder: str | None = None) -> Iterator[Worker]:
    """Starts a worker process that compiles and warms up a trial, and measures on request.

    Args:
        trial: the configuration to measure.
        repeats: number of steps that will be measured.
        cpu: whether to use the CPU even where there is an accelerator.
        folder: folder of caches; by default an empty one.
    """
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the process would inherit it
    with tempfile.TemporaryDirectory(prefix="benchmark-") as own:
        environment = {"FLAX_AGNEWS_CACHE": folder or own, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if cpu:
            environment["JAX_PLATFORMS"] = "cpu"
        arguments = (trial, f"{own}/output", repeats)
        with Worker(
            "benchmarks.support.training_steps:build_trial", arguments, trial.without != "allocator", environment
        ) as worker:
            yield worker


def take_turns(workers: Sequence[Worker], repeats: int) -> list[Result]:
    """Measures steps of several processes, interleaved, never two at a time."""

    def tell(name: str, repeat: int, sample: Sample) -> None:
        if repeat >= 0:
            speed = f"{sample.tokens / sample.seconds:.1f} real tokens/s ({sample.seconds:.2f} s)"
            print(f"{repeat + 1:3}  {speed}  {name}", flush=True)

    samples = interleave(workers, repeats, SEED, tell)
    return [Result(worker.facts, samples[worker.names[0]]) for worker in workers]


def measure(trials: Sequence[Trial], repeats: int, cpu: bool = False, folder: str | None = None) -> list[Result]:
    """Measures trials in separate processes, interleaved; arguments as of `started`."""
    with ExitStack() as stack:
        return take_turns([stack.enter_context(started(trial, repeats, cpu, folder)) for trial in trials], repeats)
