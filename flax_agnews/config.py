"""The shared settings, once: name, type, default, unit and range. Strategies bring their own sections."""

from dataclasses import dataclass, field
from typing import Any, Literal

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

    @property
    def reported_name(self) -> str:
        """The model's name in messages: its hub id or directory, or the setting that gives random weights."""
        return self.name if self.from_config is None else "model.from_config"

    @property
    def trains_tokenizer(self) -> bool:
        """Whether the vocabulary is made from the training texts."""
        return self.from_config is not None and not self.tokenizer


@dataclass
class DataConfig:
    """Which texts and labels.

    Args:
        source: Hub data set, local file, folder or glob (CSV, TSV, JSON, JSONL, Parquet), or `builtin` (generated,
            offline).
        test_source: Test file, where `source` is a single file.
        config: Configuration of a hub data set that has several.
        train_split: Split that trains.
        validation_split: Split that validates; by default the one called validation, val, valid or dev, where there is
            one, and otherwise `validation_fraction` of the training rows.
        test_split: Split that is tested on.
        test_fraction: Share of the training rows that is held out as the test split, above 0 and below 1, where there
            is no test split with labels.
        delimiter: What separates the columns of a CSV or TSV file, one character or `tab`; by default found in its
            header.
        text_column: Column of the text; two in brackets, such as [premise, hypothesis], where each text is a pair.
        label_column: Column of the label.
        labels: How labels are read where no class names are declared beside them: `positions` are class numbers from
            0, `names` are taken as written, `auto` takes integers from 0 without gaps for positions and all else for
            names. Declared names (a hub data set's, classes.txt) are matched first. `legacy` is the reading of runs
            that were made before this setting.
        special_tokens: What the body's special tokens are where they stand in a text: `text`, split like any other,
            so that no text can forge one, or the `tokens` themselves, end-of-text too, as transformers reads them. A
            token that was added and isn't special is always a token, there and here.
        max_length: Most tokens of a text; longer ones are cut and counted. Of a pair the longer text is cut first.
        validation_fraction: Share of the training rows that validates, above 0 and below 1.
        split_seed: Seed of the validation split, the same for all runs.
        limit_train: Use only the first so many training rows (before the validation split).
        limit_test: Use only the first so many test rows.
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
        """The text's column, or the two of a pair."""
        return [self.text_column] if isinstance(self.text_column, str) else list(self.text_column)

    @property
    def paired(self) -> bool:
        """Whether each text is a pair."""
        return len(self.text_columns) == 2


@dataclass
class PretrainConfig:
    """Language-model adaptation of the body on the training texts, before the comparison.

    With AdamW, a decay of 0.01 and gradients clipped at a norm of 1, whatever `train` says. What holds here of `train`
    is how a step is computed: `micro_batch_tokens`, `shapes` (2 at most) and `deterministic`.

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
        epochs: Passes over the training texts. With more of them, finished runs go on as if it had been so from the
            start, where no rate depends on how many there are (a constant schedule without warm-up).
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
        label_smoothing: Share of a text's target that is spread evenly over all classes in the training loss, at least
            0 and below 1; as in PyTorch, with `class_weights` each class's part of it weighs what the class does. The
            losses of validation and test are never smoothed.
        early_stopping: Epochs without a better validation accuracy after which a run ends; none by default. The
            learning rate follows the plan of all `epochs`. A strategy with stages waits for its last one first; trials
            of a search never end early.
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
    label_smoothing: float = 0.0
    early_stopping: int | None = None
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
        keep_final: Keep the last state of a finished run too, where there is room, so that it can go on with more
            `train.epochs`.
        on_failure: What follows a save that failed, or in which nothing has moved for 50 seconds: `continue` training
            with the saves that there are, or `stop` after the update, with exit code 2.
        gigabytes: Most that weights and states may take in the output folder (1e9 bytes); none by default.
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
    """Where metrics go besides the output folder.

    Args:
        wandb: Weights & Biases: `auto` is what WANDB_DISABLED or WANDB_MODE say, otherwise online where a key is
            configured, and off elsewhere. What is asked for here wins over the environment.
        project: Its project; by default WANDB_PROJECT, or what `wandb init` chose, or flax_agnews.
    """

    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None


@dataclass
class Config:
    """A whole experiment.

    Attributes:
        strategy: Names of what is compared, with commas between; `Experiment` writes those that it is given.
        strategies: The settings of each registered strategy, by its name.
        custom: Names of those that are no registered strategies but a script's own; `Experiment` writes them.
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
