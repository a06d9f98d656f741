"""`python -m benchmarks.make_builtin`: makes the body that comes with the package, `--model.name builtin`.

A small GPT-2 that has learned the language of the generated corpus: it was trained as a language model on other stories
of the same generator, none of which is in the data source `builtin`, and without labels.
"""

import argparse
import hashlib
import json
import math
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import save

from benchmarks.support.circumstances import RESULTS, circumstances
from flax_agnews.config import ModelConfig, ParallelConfig, PretrainConfig, TrainConfig
from flax_agnews.data import builtin
from flax_agnews.data.batches import EvalBatches
from flax_agnews.data.encoded import Split
from flax_agnews.data.tokens import Tokenizer, load_tokenizer, train_tokenizer
from flax_agnews.experiment.progress import JobObserver
from flax_agnews.models.compute import FLOAT32
from flax_agnews.models.parameters import Parameters, split
from flax_agnews.models.pretrained import Base, load_base
from flax_agnews.models.weights import hub_key
from flax_agnews.system.display import Display, Job
from flax_agnews.system.files import write_atomic, write_json
from flax_agnews.system.interrupt import Interrupt
from flax_agnews.system.model_names import BUILTIN_FOLDER
from flax_agnews.training.adaptation import AdaptationTask
from flax_agnews.training.jax_setup import begin
from flax_agnews.training.parallel import Devices
from flax_agnews.training.pretrain import adapt
from flax_agnews.training.step import language_loss

MOST_BYTES = 2_000_000
"""Size limit of all files together."""


@dataclass(frozen=True)
class Settings:
    """What determines the body.

    Attributes:
        texts: number of training stories, each of which is read once.
        held_out: number of further stories, on which the loss is measured.
        tokenizer_texts: number of training stories that the tokenizer is trained on.
        seed: seed of the stories, of the first weights and of the batches.
        vocabulary, width, layers, heads, positions: sizes.
        learning_rate: peak learning rate.
        batch_size: stories per update.
        max_length: longest story in tokens.
    """

    texts: int = 200_000
    held_out: int = 2_000
    tokenizer_texts: int = 40_000
    seed: int = 17
    vocabulary: int = 2048
    width: int = 128
    layers: int = 3
    heads: int = 4
    positions: int = 128
    learning_rate: float = 3e-3
    batch_size: int = 64
    max_length: int = 96

    @property
    def body(self) -> dict[str, Any]:
        """The fields of config.json. No dropout: every story is read once, so that there is nothing to overfit."""
        sizes = {"vocab_size": self.vocabulary, "n_positions": self.positions, "n_embd": self.width}
        dropout = dict.fromkeys(("embd_pdrop", "attn_pdrop", "resid_pdrop"), 0.0)
        return {**sizes, "n_layer": self.layers, "n_head": self.heads, **dropout}


SMOKE = Settings(
    texts=600, held_out=100, tokenizer_texts=300, vocabulary=400, width=32, layers=1, heads=1, learning_rate=1e-2
)
"""Seconds, for tests."""


def stories(settings: Settings) -> tuple[list[str], list[str]]:
    """Stories to train on and stories held out, all different, none of them in the data source `builtin`."""
    every = settings.texts + settings.held_out
    users = set(builtin.generate(builtin.TRAIN_ROWS + builtin.TEST_ROWS)[0])
    drawn, _ = builtin.generate(every + len(users), seed=settings.seed)
    apart = [story for story in drawn if story not in users][:every]
    assert len(apart) == every
    assert not users & set(apart)
    return apart[: settings.texts], apart[settings.texts :]


def held_out_loss(base: Base, texts: Sequence[str], tokenizer: Tokenizer, max_length: int) -> float:
    """Mean loss of language modelling, without dropout, in nats per token.

    Args:
        base: the body.
        texts: texts that it wasn't trained on.
        tokenizer: its tokenizer.
        max_length: longest text in tokens.
    """
    tokens = tokenizer.encode(texts, max_length)
    frame, parameters = split(base.classifier(2, jax.random.key(0)))
    loss = language_loss(tokenizer.end_of_text)

    @jax.jit
    def sums(parameters: Parameters, batch: Any) -> dict[str, jax.Array]:
        return loss(frame.merge(parameters), batch, None, FLOAT32)

    total, weight = 0.0, 0.0
    for _, _, batch in EvalBatches(tokens, np.zeros(len(texts), np.int32), 64, 1):
        for micro in range(batch.ids.shape[1]):
            found = sums(parameters, jax.tree.map(lambda leaf: leaf[0, micro], batch))  # noqa: B023 (used at once)
            total, weight = total + float(found["loss"]), weight + float(found["weight"])
    return total / weight


def make(settings: Settings, folder: Path) -> dict[str, Any]:
    """Trains tokenizer and body, writes them into a folder, and returns the record that is written beside them."""
    started = time.perf_counter()
    begin(ParallelConfig(), False)
    display = Display()
    with display.busy("writing stories"):
        texts, held_out = stories(settings)
    with display.busy("training the tokenizer"):
        train_tokenizer(texts[: settings.tokenizer_texts], settings.vocabulary).copy_to(folder)
    tokenizer = load_tokenizer(str(folder))
    model = ModelConfig(from_config=settings.body)
    base = load_base(model, settings.seed)
    with display.busy("tokenizing"):
        train = Split(tokenizer.encode(texts, settings.max_length), np.zeros(len(texts), np.int32))
    config = PretrainConfig(epochs=1, learning_rate=settings.learning_rate, batch_size=settings.batch_size)
    devices = Devices.of(ParallelConfig())
    task = AdaptationTask(base, train, tokenizer.end_of_text, config, model, TrainConfig(), devices, settings.seed)
    with Interrupt() as interrupt, display:
        observer = JobObserver(display, Job("builtin", "", config.epochs), interrupt)
        adapted, _ = adapt(task, observer)
        observer.finish("trained")
    _write(adapted, folder)
    kept = load_base(ModelConfig(name=str(folder)))
    record = {
        "about": __doc__.split("\n\n", 1)[1].strip().replace("\n", " "),
        "settings": asdict(settings),
        "corpus_sha256": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "weights_sha256": kept.hash,
        "tokens": int(train.tokens.lengths.sum()),
        "held_out_loss": round(held_out_loss(kept, held_out, tokenizer, settings.max_length), 4),
        "uniform_loss": round(math.log(settings.vocabulary), 4),
        "seconds": round(time.perf_counter() - started),
        "processor_seconds": round(time.process_time()),
        "made": {**circumstances(), "tokenizers": version("tokenizers"), "machine": platform.machine()},
    }
    write_json(folder / "made.json", record)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    assert size <= MOST_BYTES, f"{size:,} bytes"
    return record


def _write(base: Base, folder: Path) -> None:
    """Writes config.json and the weights in float16, half of what `Base.save` writes."""
    base.save(folder)
    tensors = {hub_key(path): np.asarray(value, np.float16) for path, value in base.parameters.items()}
    write_atomic(folder / "model.safetensors", save(tensors, metadata={"format": "pt"}))


def page(record: dict[str, Any], folder: Path) -> str:
    """The page on a body that was made, as Markdown."""
    how, made = record["settings"], record["made"]
    sizes = f"{how['layers']} layers, width {how['width']}, vocabulary {how['vocabulary']:,}"
    loss, uniform = record["held_out_loss"], record["uniform_loss"]
    files = [[file.name, f"{file.stat().st_size:,}"] for file in sorted(folder.iterdir()) if file.is_file()]
    lines = [
        "# The body that comes with the package",
        record["about"],
        f"{sizes}; {how['texts']:,} stories of {record['tokens'] / how['texts']:.0f} tokens, each read once in updates "
        f"of {how['batch_size']}; peak learning rate {how['learning_rate']:g}, no dropout, seed {how['seed']}.",
        f"Loss on {how['held_out']:,} other stories, with the weights as they are stored (float16): **{loss:.3f} nats "
        f"a token**, perplexity {math.exp(loss):.2f}; a uniform guess has {uniform:.3f}.",
        f"{made['date']}, commit {made['commit']}, {made['processor']}, JAX {made['jax']}, tokenizers "
        f"{made['tokenizers']}, Python {made['python']}; {record['processor_seconds']:,} seconds of processor time.",
        f"SHA-256 of the weights `{record['weights_sha256']}`, of the stories `{record['corpus_sha256']}`.",
        "\n".join(["| file | bytes |", "|---|---:|", *(f"| {name} | {size} |" for name, size in files)]),
    ]
    return "\n\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Makes the body in the package's folder, and `results/builtin.md`; in another folder, without that page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=BUILTIN_FOLDER, help="where the files are written")
    parser.add_argument("--smoke", action="store_true", help="a tiny body, in seconds; needs another folder")
    for field in fields(Settings):
        parser.add_argument(f"--{field.name}", type=type(field.default), metavar="N")
    given = vars(parser.parse_args(arguments))
    folder, smoke = given.pop("folder"), given.pop("smoke")
    if smoke and folder == BUILTIN_FOLDER:
        parser.error("--smoke needs --folder")
    settings = replace(SMOKE if smoke else Settings(), **{name: v for name, v in given.items() if v is not None})
    record = make(settings, folder)
    print(json.dumps(record, indent=1))
    if folder == BUILTIN_FOLDER:
        write_atomic(RESULTS / "builtin.md", page(record, folder).encode())


if __name__ == "__main__":
    main()
