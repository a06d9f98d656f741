"""The shared settings: name, type, default and meaning of each. Each strategy defines a section of its own."""

from dataclasses import dataclass, field
from typing import Any, Literal

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
        attention: Implementation of attention. `auto`, `blocks` of packed texts, is for all; `rows`, one for each text,
            no soft prompt and no dropout on attention weights; `cudnn` is that by cuDNN, for bfloat16 on NVIDIA GPUs.
        dropout: One rate for all of GPT-2's dropouts, 0 or more, below 1; by default those of its config.json.
        dropout_frozen: Apply dropout also in layers in which nothing trains, as the original experiment did.
    """

    name: str = "gpt2"
    from_config: str | Fields | None = None
    tokenizer: str | None = None
    start: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    attention: Literal["auto", "blocks", "rows", "cudnn"] = "auto"
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


@dataclass
class PretrainConfig:
    """Language-model adaptation of the body: trains it on the training texts, once, before all strategies start.

    It uses AdamW with a weight decay of 0.01 and gradients clipped to a norm of 1. Of the section `train`, these
    apply: `micro_batch_tokens`, `shapes` (at most 2) and `deterministic`.

    Args:
        epochs: Passes over the training texts; 0 skips language modelling.
        learning_rate: Peak learning rate: linear warm-up in the first 5 % of the updates, then cosine decay to 0.
        batch_size: Texts per update.
    """

    epochs: int = 0
    learning_rate: float = 5e-4
    batch_size: int = 32


@dataclass
class TrainConfig:
    """How every strategy trains.

    Args:
        epochs: Passes over the training texts. A larger number later continues finished runs exactly as if it had been
            set from the start, if no learning rate depends on it (constant schedule without warm-up).
        batch_size: Texts per update, over all devices.
        eval_batch_size: Average number of texts per forward pass in evaluation, over all devices.
        seed: Seed of the first run, 0 to 2147483647; run k (from 0) has seed + k.
        runs: Number of runs of each strategy, with different seeds.
        weight_decay: Decoupled weight decay of AdamW, 0 or more.
        weight_decay_mask: Which trained parameters decay: `all` (as in torch's AdamW), or only the `matrices`.
        schedule: Shape of the learning rate after warm-up: constant, or linear or cosine decay to 0.
        warmup_fraction: Share of all updates in which the learning rate rises linearly from 0, 0 to 1.
        clip_norm: Largest global norm of the gradients, above 0; larger ones are scaled down. By default no clipping.
        class_weights: Weight of a text in the training loss: `none` is 1 for all; `balanced` is n / (classes x texts of
            its class), so that all classes count equally. Accuracies and other losses are never weighted.
        label_smoothing: Share of each target that is spread evenly over all classes in the training loss, at least 0
            and below 1. With `class_weights`, each class's part has that class's weight, as in PyTorch. The losses of
            validation and test are never smoothed.
        early_stopping: Epochs without a better validation accuracy after which a run ends; by default never. The
            learning-rate schedule stays that of all `epochs`. Strategies with stages count from the start of the last
            one; trials of a learning-rate search never stop early.
        on_nonfinite: What to do when an update is NaN or infinite (it is never applied): `stop` ends that run and keeps
            its last good checkpoint, `skip` counts the update and continues.
        micro_batch_tokens: Most tokens that a device computes at once; larger batches are split and their gradients
            summed. Lower it to save memory; results stay the same up to rounding.
        shapes: Most batch shapes that a step is compiled for. `auto`, 1 to 6: as many as save more time than they cost.
        deterministic: On a GPU, use only deterministic kernels, without autotuning: slower, but repeated and resumed
            runs give identical bits. On a CPU they always do.
        parallel_seeds: Runs (seeds) of a strategy that train side by side in one program, which uses large devices
            better and needs the memory of as many training states. Best if it divides `runs`.
        cache_frozen: Compute the output of frozen lower layers once for each text, and reuse it in all epochs, seeds
            and strategies: `auto` where possible and it fits, `on` fails where it isn't possible, `off` never.
        cache_dtype: Number type of that cache; bfloat16 halves its size and rounds the input of the upper layers.
        cache_place: Where that cache is: `file` in the cache folder, which later experiments reuse, or `memory`.
        cache_gigabytes: Size limit of that cache, in 1e9 bytes; outputs used least recently are deleted.
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
    label_smoothing: float = 0.0
    early_stopping: int | None = None
    on_nonfinite: Literal["stop", "skip"] = "stop"
    micro_batch_tokens: int = 16384
    shapes: int | Literal["auto"] = "auto"
    deterministic: bool = False
    parallel_seeds: int = 1
    cache_frozen: Literal["auto", "on", "off"] = "auto"
    cache_dtype: Literal["float32", "bfloat16"] = "float32"
    cache_place: Literal["file", "memory"] = "file"
    cache_gigabytes: float = 16.0


@dataclass
class SearchConfig:
    """Learning-rate search on the validation split before the comparison, with the same budget for every strategy.

    Args:
        trials: Number of factors to try on a strategy's default learning rates, 2 to 15, in steps of 10^(1/2) around 1
            (5 trials: 0.1 to 10); 0 is no search. After each round, the better half trains from the start in a longer
            one (successive halving).
        budget: Cost of all trials of a strategy, in full training runs; each round gets an equal share.
    """

    trials: int = 0
    budget: float = 3.0


@dataclass
class ParallelConfig:
    """On which devices and processes training runs.

    Args:
        mode: How the step is distributed: `jit` over a mesh with NamedSharding, or `pmap`, for one process only.
        devices: Number of devices that each process uses; by default all.
        coordinator: Where several processes that train together connect: HOST:PORT of the first one, or `auto`, where
            JAX finds it (SLURM, Open MPI, Kubernetes, cloud TPUs, JAX_COORDINATOR_ADDRESS). By default one process.
        processes: Total number of processes, each started with the same command; by default found by `auto`.
        process: Number of this process, from 0; process 0 writes all files. By default found by `auto`.
        start_seconds: Longest wait for the other processes at the start, in seconds.
        keep_memory: Keep freed memory in the process (Linux, glibc), which saves page faults in each step on a CPU.
        keep_compilations: Keep compiled programs in the cache folder for later processes.
        compile_ahead: Compile the next strategy while one trains: `auto` on a GPU or TPU, `on` on a CPU too, `off`.
    """

    mode: Literal["jit", "pmap"] = "jit"
    devices: int | None = None
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_seconds: int = 120
    keep_memory: bool = True
    keep_compilations: bool = True
    compile_ahead: Literal["auto", "on", "off"] = "auto"


@dataclass
class CheckpointConfig:
    """When checkpoints are saved, and which are kept.

    Args:
        enabled: Save checkpoints, also when interrupted; without them a stopped run starts over.
        share: Largest share of the time that saving may cost, above 0, at most 1; slow saves are made less often.
        every_steps: Save after every so many updates instead, whatever it costs; 0 uses `share`.
        keep_last: Checkpoints that an unfinished run keeps; if the newest is damaged, an older one is used.
        keep_best: Which runs keep the weights of their best epoch, by validation accuracy: every `run`, the best run of
            each `strategy`, or the best of `all`.
        keep_final: Keep the last checkpoint of a finished run, if there is room, to continue with more `train.epochs`.
        on_failure: What to do when a save fails or makes no progress for 50 seconds: `continue` training with the
            earlier checkpoints, or `stop` after the current update with exit code 2.
        gigabytes: Size limit of weights and checkpoints in the output folder, in 1e9 bytes; by default none.
    """

    enabled: bool = True
    share: float = 0.01
    every_steps: int = 0
    keep_last: int = 2
    keep_best: Literal["run", "strategy", "all"] = "run"
    keep_final: bool = True
    on_failure: Literal["continue", "stop"] = "continue"
    gigabytes: float | None = None


@dataclass
class TrackingConfig:
    """Where metrics are logged besides the output folder.

    Args:
        wandb: Mode of Weights & Biases. `auto` follows WANDB_DISABLED and WANDB_MODE; if not set, it is online where
            an API key is configured, and else disabled. The other values override the environment.
        project: Weights & Biases project; by default that of WANDB_PROJECT, of `wandb init`, or `flax_agnews`.
    """

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None


@dataclass
class Config:
    """All settings of an experiment; one section for each of the classes above.

    Attributes:
        strategy: Strategies to compare, separated by commas; `all` is full, prompt and partial, `every` is all
            registered ones. `Experiment` writes the names of those that it is given.
        output: Output folder.
        strategies: Name of a registered strategy -> its settings.
        custom: Names of strategies that a script defines itself; set by `Experiment`.
    """

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
    custom: list[str] = field(default_factory=list)
