"""Settings of training: language modelling first, each strategy's runs, the search of rates, devices, planning."""

from dataclasses import dataclass
from typing import Literal


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
        spread: What is spread over these devices: `runs` trains one run (or `train.parallel_seeds`) on each device, as
            many at once as there are devices; `batch` trains one after the other, with every batch split over all
            devices; `auto` is `runs` where there are several, in one process.
        fsdp: Split trained weights, gradients and optimizer state over a run's devices, for models whose state doesn't
            fit on one (fully sharded data parallelism); the numbers stay the same up to rounding. For one process.
        shard: Train every N-th of the comparison's runs, from the I-th on: `I/N`, I from 1. `auto/N` takes I from a
            SLURM job array (SLURM_ARRAY_TASK_ID) or a Kubernetes indexed Job (JOB_COMPLETION_INDEX), whose tasks are
            numbered from 0; `auto` also takes N, from SLURM. The output folder is `shard-I-of-N` inside `output`.
            `--shard` is short for it.
        coordinator: Where several processes that train together connect: HOST:PORT of the first one, or `auto`, where
            JAX finds it (SLURM, Open MPI, Kubernetes, cloud TPUs, JAX_COORDINATOR_ADDRESS). By default one process.
        processes: Total number of processes, each started with the same command; by default found by `auto`.
        process: Number of this process, from 0; process 0 writes all files. By default found by `auto`.
        start_seconds: Longest wait for the other processes at the start, in seconds.
        keep_memory: Keep freed memory in the process (Linux, glibc), which saves page faults in each step on a CPU.
        keep_compilations: Keep compiled programs in the cache folder for later processes.
        compile_ahead: Compile the next strategy while one trains: `auto` on a GPU or TPU, `on` on a CPU too, `off`.
        engine: What runs the comparison's runs: this command (`local`), or the nodes of a Ray cluster (`ray`), several
            at once, each a task of its own; needs `pip install 'flax_agnews[ray]'`, and an output folder that all nodes
            share.
        address: Where the Ray cluster is: HOST:PORT of its head, or `auto`, the default: that of the environment
            variable RAY_ADDRESS, or the one that this machine belongs to.
        task_gpus: GPUs of each run on Ray; 0 computes on processors. By default `devices`, or else 1, where the
            cluster has GPUs.
        task_cpus: Processor cores of each run on Ray. By default 1 beside a GPU, and without GPUs all of a node: those
            of the node that has the fewest.
    """

    mode: Literal["jit", "pmap"] = "jit"
    devices: int | None = None
    spread: Literal["auto", "runs", "batch"] = "auto"
    fsdp: bool = False
    shard: str = "1/1"
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start_seconds: int = 120
    keep_memory: bool = True
    keep_compilations: bool = True
    compile_ahead: Literal["auto", "on", "off"] = "auto"
    engine: Literal["local", "ray"] = "local"
    address: str | None = None
    task_gpus: int | None = None
    task_cpus: int | None = None


@dataclass
class PlanConfig:
    """What `--dry_run` plans for; training reads none of it.

    Args:
        devices: Number of devices to plan for; by default those of the run.
        device: Kind of device to plan for, from a table of speeds; by default a few steps are measured here.
    """

    devices: int | None = None
    device: Literal["a100", "h100", "h200"] | None = None
