"""Turns a run into a plain GPT-2 with a head: merged adapters, an added padding token, tokenizer and config.json.

GPT2ForSequenceClassification pools the last token that isn't the padding token. GPT-2 has no padding token, and the
usual substitute, end-of-text, has other uses here: it is the only token of an empty text, and it separates the texts of
a pair, so that a pair with an empty second text would be pooled at the end of the first one. So the vocabulary gets one
more entry, for padding, which no text contains. Where the run reads special tokens in texts as tokens, a text that
contains that entry's name would be read as padding, so that the name is one that nobody writes.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing

from flax_agnews.config import ModelConfig
from flax_agnews.data.tokens import END_OF_TEXT, Ragged
from flax_agnews.errors import UserError, listed
from flax_agnews.models import parameters
from flax_agnews.models.linear_replacement import merged
from flax_agnews.models.pretrained import body_shapes, load_base
from flax_agnews.strategies import Strategy
from flax_agnews.strategies.optim import FROZEN
from flax_agnews.system.files import write_atomic, write_json
from flax_agnews.trained.exports.target import Logits
from flax_agnews.trained.loading import LoadedRun
from flax_agnews.training.adapted_model import adapt_model
from flax_agnews.training.inference import Inference

HEAD, TOKENS = "score/kernel", "transformer/wte/embedding"
PADDING, RARE_PADDING = "<|pad|>", "<|flax_agnews_padding|>"  # the second where texts may contain special tokens


def why_not(run: LoadedRun) -> str | None:
    """Why the run can't be turned into a plain GPT-2, in a few words; None where it can."""
    if count := run.module.prompt_tokens:
        return f"the {count} positions before every text can't be merged into a GPT-2"
    try:
        found = parameters.split(merged(run.module))[1]
    except UserError as error:
        return str(error)
    known = {*body_shapes(run.model.base.config), HEAD}
    return f"GPT-2 has no {listed(sorted(set(found) - known))}" if set(found) - known else None


def write_plain(run: LoadedRun, folder: Path, architecture: str) -> dict[str, np.ndarray]:
    """Writes config.json and the tokenizer's files.

    Args:
        run: the loaded run.
        folder: the export's folder, which exists.
        architecture: name of the model's class in `transformers`.

    Returns:
        Path -> array of body and head, for the caller to write.
    """
    found = {path: np.asarray(value) for path, value in parameters.split(merged(run.module))[1].items()}
    padding = _write_tokenizer(run, folder)
    config, rows = run.model.base.config, max(0, padding + 1 - len(found[TOKENS]))
    found[TOKENS] = np.pad(found[TOKENS], ((0, rows), (0, 0)))
    special = {"bos_token_id": run.tokenizer.end_of_text, "eos_token_id": run.tokenizer.end_of_text}
    fields = {
        "model_type": "gpt2",
        "architectures": [architecture],
        **asdict(replace(config, vocab_size=len(found[TOKENS]))),
        **special,
        "pad_token_id": padding,
        "id2label": {str(number): name for number, name in enumerate(run.classes)},
        "label2id": {name: number for number, name in enumerate(run.classes)},
        "problem_type": "single_label_classification",
        "dtype": "float32",
    }
    write_json(folder / "config.json", fields)
    return found


def read_plain(folder: Path, run: LoadedRun, read_head: Callable[[], np.ndarray]) -> Logits:
    """Reads an export back, with config and tokenizer; returns a function that computes its logits.

    Args:
        folder: the export's folder.
        run: the loaded run.
        read_head: reads the head's weights, [width, classes].

    Raises:
        UserError: the tokenizer, as `transformers` loads it, gives other ids than the run's.
    """
    base, head = load_base(ModelConfig(name=str(folder))), read_head()
    _check_tokenizer(run, folder)
    exported = Strategy("exported", label=lambda path, shape: FROZEN, transforms=lambda plan: {})
    model = adapt_model(exported, base, head.shape[1], ModelConfig())
    body = {path: jnp.asarray(value) for path, value in base.parameters.items()}
    return Inference(model, {**body, HEAD: jnp.asarray(head)}, {}).logits


def notes(run: LoadedRun) -> list[str]:
    """Sentences for the model card about using the export."""
    most, end = run.max_length, run.tokenizer.end_of_text
    pair = (
        "Each text is a pair: its two texts with end-of-text between them, which the tokenizer puts there where it is "
        "given both (`text` and `text_pair`). Where a pair is too long, the longer text is cut first."
    )
    dtype = run.config.model.dtype
    special = "plain text" if run.tokenizer.special_tokens == "text" else "the tokens that they are"
    rounded = f"**Numbers** are float32 here; the run multiplied in {dtype}, and its own scores differ a little."
    return [
        f"**Long texts** were cut to their first {most} tokens in training and have to be here: `truncation=True`.",
        *([pair] if run.paired else []),
        "**Batches** have to be padded on the right, as the tokenizer does. Its padding token is an entry of its own, "
        "since the last token that isn't padding is pooled, and end-of-text may be that.",
        f"**An empty text** was end-of-text alone in training. The tokenizer makes no token of it: alone it is an "
        f"error, and beside other texts in a batch its answer means nothing. Give `input_ids` [[{end}]] instead.",
        f"**Special tokens** in a text, such as `<|endoftext|>`, are read as {special}, as in training.",
        *([rounded] if dtype != "float32" else []),
    ]


def _write_tokenizer(run: LoadedRun, folder: Path) -> int:
    """Writes tokenizer.json and tokenizer_config.json; returns the id of the padding token, which no text contains."""
    own, end = run.tokenizer, run.tokenizer.end_of_text
    backend: Any = Backend.from_str(own.backend.to_str())
    ordinary: Mapping[str, int] = backend.get_vocab(with_added_tokens=False)
    split, first = own.special_tokens == "text", PADDING if own.special_tokens == "text" else RARE_PADDING
    taken = {*ordinary, *(name for name, special in own.added.items() if not (special and split))}
    names = (f"{first[:-2]}{number or ''}{first[-2:]}" for number in itertools.count())
    name = next(name for name in names if name not in taken)
    backend.add_special_tokens([name])
    padding, end_name = backend.token_to_id(name), backend.id_to_token(end)
    if padding in ordinary.values():
        raise UserError(f"{run.folder.path}: the ids of its tokenizer have gaps; no id can be added for padding")
    between = [(end_name, end)]
    backend.post_processor = TemplateProcessing(single="$A", pair=f"$A {end_name} $B", special_tokens=between)
    write_atomic(folder / "tokenizer.json", backend.to_str(pretty=True).encode())
    fields: dict[str, Any] = {
        **run.tokenizer.settings,
        "pad_token": name,
        "padding_side": "right",
        "truncation_side": "right",
        "model_max_length": run.max_length,
        "split_special_tokens": split,  # special tokens in texts are read as in the run
    }
    write_json(folder / "tokenizer_config.json", fields)
    return padding


def _check_tokenizer(run: LoadedRun, folder: Path) -> None:
    """Raises a `UserError` where the exported tokenizer gives some text other ids than the run's own."""
    from transformers import GPT2Tokenizer

    theirs, most = GPT2Tokenizer.from_pretrained(str(folder)), run.max_length
    texts = ["Oil prices climb 3% – shares don't follow.\n", f"  two  {END_OF_TEXT}{PADDING}", "Ünï ☃", "a b" * most]
    pairs = [(first, second) for first in texts for second in ("", *texts)] if most > 2 else []
    texts += [f"before {name}{name} after" for name in run.tokenizer.added]
    found = theirs(texts, truncation=True)["input_ids"]
    if pairs:
        found += theirs(*map(list, zip(*pairs, strict=True)), truncation=True)["input_ids"]
    ours = [row for part in (texts, pairs) if part for row in _rows(run.tokenizer.encode(part, most))]
    if wrong := next((text for text, a, b in zip([*texts, *pairs], ours, found, strict=True) if a != b), None):
        raise UserError(f"{run.folder.path}: transformers' tokenizer gives {wrong!r} other ids than the run's has")


def _rows(tokens: Ragged) -> list[list[int]]:
    """Token ids of each text, as lists."""
    return [tokens[place].tolist() for place in range(len(tokens))]
