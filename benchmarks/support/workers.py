"""Measures contenders in worker processes, one at a time; every repeat measures each once, in a shuffled order."""

import math
import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from flax_agnews.config import DataConfig
from flax_agnews.data.shapes import MOST
from flax_agnews.training.memory import keep_freed

MEGABATCH = 50
"""Number of batches that Hugging Face's Trainer sorts by length at once; a benchmark reads as many."""


def batches_per_repeat(backend: str) -> int:
    """Number of batches in a repeat of a suite, an even one: where a step takes milliseconds, many."""
    return 2 if backend == "cpu" else 10


_PATIENCE = 20  # seconds until a worker process that doesn't end is killed

OPTIONAL = ("torch.compile", "trainer")
"""Contenders that are measured on a GPU only, unless options say otherwise."""

WARM_UP = -1
"""Number of the warm-up repeat, which is not counted."""


@dataclass(frozen=True)
class Settings:
    """Settings that all contenders of a benchmark share.

    Attributes:
        model: directory of the body's config.json and weights.
        tokenizer, data: directories of GPT-2's tokenizer and of the texts.
        batch_size: texts per update.
        repeats: number of repeats, without the warm-up.
        allocator: whether freed memory stays in the process.
        device: "cpu", or "auto" for the accelerator that JAX finds.
        seed: seed of the order of contenders and of the batches.
        max_length: most tokens of a text.
        shapes: most compiled shapes of the library.
        micro_batch_tokens: most tokens that the library computes at once; None for its default.
        also, without: names of `OPTIONAL` contenders that are measured on a CPU too, or nowhere; with commas between.
        compile_limit: seconds after which `torch.compile` isn't waited for any more.
    """

    model: str
    tokenizer: str
    data: str
    batch_size: int = 32
    repeats: int = 5
    allocator: bool = True
    device: str = "auto"
    seed: int = 42
    max_length: int = 256
    shapes: int = MOST
    micro_batch_tokens: int | None = None
    also: str = ""
    without: str = ""
    compile_limit: float = 240

    def measures(self, name: str, backend: str) -> bool:
        """Whether an `OPTIONAL` contender is measured on a backend of JAX."""
        return name in self.also.split(",") or (backend == "gpu" and name not in self.without.split(","))

    @property
    def texts(self) -> int:
        """Number of training texts, those of one megabatch, from which batches are drawn."""
        return MEGABATCH * self.batch_size

    @property
    def limit_train(self) -> int:
        """Number of training rows to read, of which `texts` are left after the validation split."""
        share = DataConfig().validation_fraction
        return next(n for n in range(self.texts, 2 * self.texts) if n - math.ceil(share * n) >= self.texts)


class Suite(NamedTuple):
    """A strategy in a precision; its contenders are measured interleaved."""

    strategy: str
    precision: str

    def __str__(self) -> str:
        return "-".join(self)

    @classmethod
    def of(cls, name: str) -> "Suite":
        """The suite of a name like `full-float32`."""
        return cls(*name.split("-"))


class NotMeasured(Exception):
    """Why a contender can't be measured here, in words; the others are measured all the same."""


class Sample(NamedTuple):
    """A measurement of complete training steps, or of predictions.

    Attributes:
        seconds: wall time.
        tokens: number of real tokens that were processed.
        texts: number of texts.
    """

    seconds: float
    tokens: int
    texts: int


Samples = Mapping[str, Sequence[Sample]]
"""Contender -> its samples, one for each repeat."""

Contenders = Mapping[str, Callable[[int], Sample]]
"""Name of a contender -> function that measures it; its argument is the repeat, or `WARM_UP`."""


class Built(NamedTuple):
    """The contenders that a worker process has built, and facts about them for the parent process."""

    contenders: Contenders
    facts: dict[str, Any]


class Worker:
    """A process that builds contenders, and measures one on request.

    Args:
        target: `module:function`, imported in the process after the allocator is set; the function returns a `Built`.
        arguments: arguments of the function.
        allocator: whether freed memory stays in the process.
        environment: environment variables of the process.

    Raises:
        RuntimeError: building or measuring failed in the process; the message has its traceback.
    """

    def __init__(self, target: str, arguments: Sequence[Any], allocator: bool, environment: Mapping[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._name = target
        how = (theirs, target, tuple(arguments), allocator, dict(environment))
        self._process = context.Process(target=_serve, args=how, daemon=True)
        self._process.start()
        theirs.close()

    def __enter__(self) -> "Worker":
        self.names, self.facts = self._received()
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()  # ends the process
        self._process.join(_PATIENCE)
        self._process.kill()
        self._process.join()  # the next process needs its memory

    def measure(self, name: str, repeat: int) -> Sample:
        """Measures one contender in the process, and waits for the result, however long its first repeat compiles.

        Raises:
            NotMeasured: the contender can't be measured.
        """
        self._connection.send((name, repeat))
        answer = self._received()
        if isinstance(answer, str):
            raise NotMeasured(answer)
        return Sample(*answer)

    def _received(self) -> Any:
        try:
            failed, answer = self._connection.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            raise RuntimeError(f"{self._name}: its process ended with code {code} (-9: out of memory?)") from None
        if failed:
            raise RuntimeError(f"{self._name}:\n{answer}")
        return answer


def _serve(
    connection: Connection, target: str, arguments: Sequence[Any], allocator: bool, environment: Mapping[str, str]
) -> None:
    """Runs in the worker process: builds the contenders, then measures them on request."""
    os.environ.update(environment)
    if allocator:
        keep_freed()
    try:
        module, function = target.split(":")
        contenders, facts = getattr(import_module(module), function)(*arguments)
        connection.send((False, (list(contenders), facts)))
        while True:
            name, repeat = connection.recv()
            try:
                answer: Any = tuple(contenders[name](repeat))
            except NotMeasured as reason:
                answer = str(reason)
            connection.send((False, answer))
    except EOFError:  # the parent is gone
        return
    except BaseException:
        connection.send((True, traceback.format_exc()))


def interleave(
    workers: Sequence[Worker],
    repeats: int,
    seed: int,
    tell: Callable[[str, int, Sample], None],
    leave_out: Callable[[str, str], None] | None = None,
    until: float = math.inf,
) -> Samples:
    """Measures all contenders of all workers, never two at a time.

    Args:
        workers: processes that are ready.
        repeats: number of rounds after the warm-up.
        seed: seed of the order in each round.
        tell: called with name, repeat and sample after every measurement, including the warm-up's.
        leave_out: called with name and reason of a contender that can't be measured, which isn't in the result then;
            without it, this is an error.
        until: `time.monotonic` after which no round begins, but for the first one that counts.
    """
    owners = {name: worker for worker in workers for name in worker.names}
    rng = np.random.default_rng(seed)
    samples: dict[str, list[Sample]] = {name: [] for name in owners}
    for repeat in range(WARM_UP, repeats):
        if repeat > 0 and time.monotonic() > until:
            break
        names = list(owners)
        for index in rng.permutation(len(names)):
            name = names[index]
            try:
                sample = owners[name].measure(name, repeat)
            except NotMeasured as reason:
                if leave_out is None:
                    raise
                leave_out(name, str(reason))
                del owners[name], samples[name]
                continue
            tell(name, repeat, sample)
            if repeat != WARM_UP:
                samples[name].append(sample)
    return samples
