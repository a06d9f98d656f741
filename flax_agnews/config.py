"""The shared settings, once: name, type, default, unit and range. Strategies bring their own sections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from flax_agnews.errors import UserError

Fields = dict[str, bool | int | float | str | None]
"""Of a config.json. Plain values: where anything is allowed, the parser makes objects of classes that a file names."""


@dataclass
class ModelConfig:
    """Which GPT-2, and how it computes.

    Args:
        name: Hub id or local directory with config.json and model.safetensors (or flax_model.msgpack).
        from_config: Random weights instead: a config.json, a directory with one, or its fields as a mapping.
        tokenizer: Hub id or directory of the tokenizer; by default the model's own. With `from_config` and no
            tokenizer, a byte-level BPE of the model's vocabulary size is trained on the training texts.
        start: What head and adapter start from instead of random values, Hub id or directory: a PEFT adapter of the
            strategy's method and settings, or a GPT2ForSequenceClassification, the same as `name`, for its head.
        dtype: Compute type; master weights and optimizer state are always float32.
        attention: How tokens attend: `blocks` of the packed texts, which works with everything; `rows` of one text
            each, without a soft prompt and without dropout on attention weights; `cudnn`, the same by cuDNN, in
            bfloat16 on an NVIDIA GPU. Not measured on a GPU yet; `auto` is therefore blocks everywhere.
        dropout: One rate for all of GPT-2's dropout sites, 0 to 1; by default those of the model's config.json.
        dropout_frozen: Keep dropout in layers in which nothing trains (the original experiment's way).
    """

    name: str = "gpt2"
    from_config: str | Fields | None = None
    tokenizer: str | None = None
    start: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "blocks", "rows", "cudnn"] = "auto"
    dropout: float | None = None
    dropout_frozen: bool = False


@dataclass
class DataConfig:
    """Which texts and labels.

    Args:
        source: Hub data set, local file or folder (CSV, JSONL, Parquet), or `builtin` (generated, offline).
        test_source: Test file, where `source` is a single file.
        text_column: Column of the text; two in brackets, such as [premise, hypothesis], where each text is a pair.
        label_column: Column of the label: class numbers, or class names as text.
        max_length: Most tokens of a text; longer ones are cut and counted. Of a pair the longer text is cut first.
        validation_fraction: Share of the training rows that validates, above 0 and below 1.
        split_seed: Seed of the validation split, the same for all runs.
        limit_train: Use only the first so many training rows (before the validation split).
        limit_test: Use only the first so many test rows.
    """

    source: str = "fancyzhx/ag_news"
    test_source: str | None = None
    text_column: str | list[str] = "text"
    label_column: str = "label"
    max_length: int = 256
    validation_fraction: float = 0.1
    split_seed: int = 42
    limit_train: int | None = None
    limit_test: int | None = None

    @property
    def text_columns(self) -> list[str]:
        """The text's column, or the two of a pair."""
        return [self.text_column] if isinstance(self.text_column, str) else list(self.text_column)

    @property
    def paired(self) -> bool:
        """Whether each text is a pair."""
        return len(self.text_columns) == 2


@dataclass
class PretrainConfig:
    """Language-model adaptation of the body on the training texts, before the comparison.

    Args:
        epochs: Passes over the training texts; 0 is none.
        learning_rate: Peak rate of AdamW (warm-up of 5 %, then cosine to zero).
        batch_size: Texts an update.
    """

    epochs: int = 0
    learning_rate: float = 5e-4
    batch_size: int = 32


@dataclass
class TrainConfig:
    """How every strategy trains.

    Args:
        epochs: Passes over the training texts.
        batch_size: Texts an update, over all devices.
        eval_batch_size: Texts a forward pass in evaluation, over all devices.
        seed: Seed of the first run; run k has seed + k.
        runs: Runs (seeds) of each strategy.
        weight_decay: AdamW's decoupled decay.
        weight_decay_mask: Which trained leaves decay: all (as torch's AdamW), or matrices only.
        schedule: Shape of the learning rate over the run, after warm-up.
        warmup_fraction: Share of all steps in which the rate climbs from 0, 0 to 1.
        clip_norm: Largest global norm of the trained gradients; none by default.
        class_weights: What a text weighs in the training loss: the same, or `balanced`, as much as makes all classes
            equal: n / (classes x texts of its class), counted in the training texts. Accuracies, and the losses of
            validation and test, are never weighted.
        on_nonfinite: What to do about an update whose numbers aren't finite: `stop` the run, whose last good checkpoint
            is kept, or `skip` the update and count it.
        micro_batch_tokens: Most tokens that one device holds at once; larger batches are split and summed.
        shapes: Most compiled shapes of a training step; more waste less padding and compile longer.
        deterministic: On a GPU, only kernels that give the same bits every time, chosen without autotuning: slower, so
            that a run that was stopped ends with the bytes of an undisturbed one. A CPU does so anyway.
        parallel_seeds: Runs (seeds) of a strategy that train side by side in one program: fewer, larger updates, for
            the memory of as many states; best where it divides `runs`.
        cache_frozen: Compute what frozen lower layers make of the texts once, for all epochs, seeds and strategies:
            `auto` where it fits and there is one process, `on` or an error, `off` never.
        cache_dtype: Type of that cache; bfloat16 takes half the space and rounds what the upper layers get.
        cache_place: Where it is: files in the cache folder, which later experiments find, or memory.
        cache_gigabytes: Most that all such files take (1e9 bytes); those used least recently make room.
    """

    epochs: int = 5
    batch_size: int = 128
    eval_batch_size: int = 128
    seed: int = 42
    runs: int = 3
    weight_decay: float = 0.01
    weight_decay_mask: Literal["all", "matrices"] = "all"
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_fraction: float = 0.0
    clip_norm: float | None = None
    class_weights: Literal["none", "balanced"] = "none"
    on_nonfinite: Literal["stop", "skip"] = "stop"
    micro_batch_tokens: int = 16384
    shapes: int = 6
    deterministic: bool = False
    parallel_seeds: int = 1
    cache_frozen: Literal["auto", "on", "off"] = "auto"
    cache_dtype: Literal["float32", "bfloat16"] = "float32"
    cache_place: Literal["file", "memory"] = "file"
    cache_gigabytes: float = 16.0


@dataclass
class SearchConfig:
    """Choosing the learning rates, before the comparison: each strategy gets as many trials on the validation split.

    Args:
        trials: How many factors of its default rates a strategy tries, from a grid around 1 in steps of 10^(1/2); 0 is
            none. In each round all that are left train from the start, the better half goes on to a longer one.
        budget: What all trials of a strategy may cost, in runs of it; every round gets the same share.
    """

    trials: int = 0
    budget: float = 3.0


@dataclass
class ParallelConfig:
    """How the step is laid over the devices.

    Args:
        mode: `jit` over a mesh (NamedSharding), or `pmap`; both compile the same step.
        devices: How many devices to use, of each process; by default all.
        coordinator: Where several processes meet that train as one: HOST:PORT of the first, or `auto`, where JAX
            finds them by itself (SLURM, Open MPI, Kubernetes, cloud TPUs, JAX_COORDINATOR_ADDRESS).
        processes: How many processes there are; each is started by the same command.
        process: Which of them this one is, from 0; the first one writes.
        start_seconds: Longest wait for the others at the start.
        keep_memory: Keep freed memory in the process (glibc), which saves a CPU the page faults of every step.
        keep_compilations: Keep compiled programs in the cache folder, so that the same ones load in later processes.
    """

    mode: Literal["jit", "pmap"] = "jit"
    devices: int | None = None
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_seconds: int = 120
    keep_memory: bool = True
    keep_compilations: bool = True


@dataclass
class CheckpointConfig:
    """When training state is saved, and what stays of it.

    Args:
        enabled: Save now and then and when interrupted; without it a stopped run starts over.
        share: Most of the time that saving may cost: the dearer a save is here, the rarer it is.
        every_steps: Save every so many updates instead, whatever it costs; 0 leaves it to `share`.
        keep_last: States of a run that stay until it is finished; an older one is taken up where a newer is damaged.
        keep_best: Best weights that stay: of every `run`, of the best run of each `strategy`, or of the best of `all`
            (by validation accuracy).
        gigabytes: Most that weights and states may take in the output folder (1e9 bytes); none by default.
    """

    enabled: bool = True
    share: float = 0.01
    every_steps: int = 0
    keep_last: int = 2
    keep_best: Literal["run", "strategy", "all"] = "run"
    gigabytes: float | None = None


@dataclass
class TrackingConfig:
    """Where metrics go besides the output folder.

    Args:
        wandb: Weights & Biases: `auto` is online where a key is configured, otherwise off.
        project: Its project name.
    """

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "flax_agnews"


@dataclass
class Config:
    """A whole experiment. `strategies` holds the settings of each strategy, by its name."""

    strategy: str = "all"
    output: str = "runs/ag_news"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    strategies: dict[str, Any] = field(default_factory=dict)


# setting: (check, what is allowed). Types and choices are the parser's; ranges stand here.
_RANGES: Mapping[str, tuple[Any, str]] = {
    "model.dropout": (lambda v: v is None or 0 <= v < 1, "at least 0 and below 1"),
    "data.text_column": (
        lambda v: isinstance(v, str) or len(v) == len(set(v)) == 2,
        "a column, or two different ones, such as [premise, hypothesis]",
    ),
    "data.max_length": (lambda v: v >= 1, "1 or more"),
    "data.validation_fraction": (lambda v: 0 < v < 1, "above 0 and below 1"),
    "data.limit_train": (lambda v: v is None or v >= 2, "2 or more"),
    "data.limit_test": (lambda v: v is None or v >= 1, "1 or more"),
    "pretrain.epochs": (lambda v: v >= 0, "0 or more"),
    "pretrain.learning_rate": (lambda v: v > 0, "above 0"),
    "pretrain.batch_size": (lambda v: v >= 1, "1 or more"),
    "train.epochs": (lambda v: v >= 1, "1 or more"),
    "train.batch_size": (lambda v: v >= 1, "1 or more"),
    "train.eval_batch_size": (lambda v: v >= 1, "1 or more"),
    "train.seed": (lambda v: 0 <= v < 2**31, "0 to 2147483647"),
    "train.runs": (lambda v: v >= 1, "1 or more"),
    "train.weight_decay": (lambda v: v >= 0, "0 or more"),
    "train.warmup_fraction": (lambda v: 0 <= v <= 1, "0 to 1"),
    "train.clip_norm": (lambda v: v is None or v > 0, "above 0"),
    "train.micro_batch_tokens": (lambda v: v >= 1, "1 or more"),
    "train.shapes": (lambda v: v >= 1, "1 or more"),
    "train.parallel_seeds": (lambda v: v >= 1, "1 or more"),
    "train.cache_gigabytes": (lambda v: v > 0, "above 0"),
    "search.trials": (lambda v: v == 0 or 2 <= v <= 15, "0, or 2 to 15"),
    "search.budget": (lambda v: v > 0, "above 0"),
    "parallel.devices": (lambda v: v is None or v >= 1, "1 or more"),
    "parallel.processes": (lambda v: v is None or v >= 1, "1 or more"),
    "parallel.process": (lambda v: v is None or v >= 0, "0 or more"),
    "parallel.start_seconds": (lambda v: v >= 1, "1 or more"),
    "checkpoint.share": (lambda v: 0 < v <= 1, "above 0, 1 at most"),
    "checkpoint.every_steps": (lambda v: v >= 0, "0 or more"),
    "checkpoint.keep_last": (lambda v: v >= 1, "1 or more"),
    "checkpoint.gigabytes": (lambda v: v is None or v > 0, "above 0"),
}


def check_ranges(config: Config) -> None:
    """Raises a `UserError` that names the first setting outside its range."""
    for name, (allowed, words) in _RANGES.items():
        section, key = name.split(".")
        value = getattr(getattr(config, section), key)
        if not allowed(value):
            raise UserError(f"--{name} {value}: must be {words}")
    if config.data.paired and config.data.max_length < 3:
        each = "a token of each text, and the separator"
        raise UserError(f"--data.max_length {config.data.max_length}: must be 3 or more for pairs: {each}")
