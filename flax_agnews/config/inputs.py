"""Settings of what an experiment reads: the model, and the texts and labels."""

from dataclasses import dataclass
from typing import Literal

Fields = dict[str, bool | int | float | str | None]
"""Fields of a config.json; plain values only, since for any type the parser would import classes that a file names."""


@dataclass
class ModelConfig:
    """Which GPT-2 is fine-tuned (the body), and how it is computed.

    Args:
        name: Hub id, directory (config.json, and model.safetensors or flax_model.msgpack), or the package's `builtin`.
        from_config: Random weights instead of those of `name`: fields of a config.json, its path or folder, hub id, or
            `builtin`.
        tokenizer: Hub id or directory of the tokenizer; by default the model's own, or with `from_config` a byte-level
            BPE of the model's vocabulary size, trained on the training texts.
        start: Hub id or directory with initial values of head or adapter instead of the strategy's own: a PEFT adapter
            of the same method and settings, or a GPT2ForSequenceClassification with the body `name`, for its head.
        dtype: Type of activations and matrix products. Master weights and optimizer state are always float32.
        precision: What products of float32 matrices may round to. `default` is fast: TF32 on NVIDIA GPUs from
            Ampere on, bfloat16 on TPUs. `high` is the same on a GPU, and three times bfloat16 on a TPU. `highest` is
            float32, which is PyTorch's default. On a CPU all are float32; with bfloat16 it has no effect.
        attention: Implementation of attention: `blocks` of packed texts, or `rows`, one for each text, where a layer
            drops no attention weights; `auto` is rows where cuDNN computes them (bfloat16 on NVIDIA GPUs), else blocks.
        dropout: One rate for all of GPT-2's dropouts, 0 or more, below 1; by default those of its config.json.
        dropout_frozen: Apply dropout also in layers in which nothing trains, as the original experiment did.
    """

    name: str = "gpt2"
    from_config: str | Fields | None = None
    tokenizer: str | None = None
    start: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    precision: Literal["default", "high", "highest"] = "default"
    attention: Literal["auto", "blocks", "rows"] = "auto"
    dropout: float | None = None
    dropout_frozen: bool = False

    @property
    def reported_name(self) -> str:
        """The model's name in messages: its hub id or directory, or `model.from_config` for random weights."""
        return self.name if self.from_config is None else "model.from_config"

    @property
    def trains_tokenizer(self) -> bool:
        """Whether the tokenizer is trained on the training texts."""
        return self.from_config is not None and not self.tokenizer


@dataclass
class DataConfig:
    """Which texts and labels are read, and how.

    Args:
        source: Hub data set; file, folder or glob pattern (CSV, TSV, JSON, JSONL, Parquet); or `builtin`, generated.
        test_source: File or glob pattern with the test rows, where `source` is a file or pattern; else not needed.
        config: Name of the configuration, for data sets that have several (`sst2` of `nyu-mll/glue`); by default none.
        train_split: Name of the training split.
        validation_split: Name of the validation split; by default validation, val, valid or dev if there is one, and
            otherwise `validation_fraction` of the training rows are held out.
        test_split: Name of the test split.
        test_fraction: Share of the training rows that is held out as the test split, above 0 and below 1, for data
            without a labelled test split; by default such data are an error.
        delimiter: Character between the columns of a CSV or TSV file, or `tab`; by default detected in the header.
        text_column: Column of the text; for pairs of texts two in brackets, such as [premise, hypothesis].
        label_column: Column of the label.
        labels: How labels are read. `positions`: class numbers from 0; `names`: class names as written. `auto`: if
            class names are declared (hub data set, classes.txt), labels are matched with them first, else read as
            positions among them; without declared names, integers from 0 without gaps are positions, and all other
            labels names. `legacy`: as before this setting existed, for older runs.
        special_tokens: How special tokens that occur in a text, such as end-of-text, are read: `text` splits them like
            any other text, so that no text can contain a real one; `tokens` reads them as the tokens, as transformers
            does. Added tokens that aren't special are read as tokens in both cases.
        max_length: Largest number of tokens per text; longer texts are cut and counted. Of a pair, the longer text is
            cut first.
        validation_fraction: Share of the training rows held out without a validation split, above 0 and below 1.
        split_seed: Seed of the choice of rows held out for validation or test, the same for all runs.
        limit_train: Use only the first so many training rows, 2 or more (before validation rows are held out).
        limit_test: Use only the first so many test rows, 1 or more.
    """

    source: str = "fancyzhx/ag_news"
    test_source: str | None = None
    config: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str = "test"
    test_fraction: float | None = None
    delimiter: str | None = None
    text_column: str | list[str] = "text"
    label_column: str = "label"
    labels: Literal["auto", "names", "positions", "legacy"] = "auto"
    special_tokens: Literal["text", "tokens"] = "text"
    max_length: int = 256
    validation_fraction: float = 0.1
    split_seed: int = 42
    limit_train: int | None = None
    limit_test: int | None = None

    @property
    def text_columns(self) -> list[str]:
        """The column of the text, or the two columns of a pair, as a list."""
        return [self.text_column] if isinstance(self.text_column, str) else list(self.text_column)

    @property
    def paired(self) -> bool:
        """Whether each example is a pair of texts."""
        return len(self.text_columns) == 2
