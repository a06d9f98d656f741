"""Settings of transformers' `TrainingArguments` and PEFT's configurations, and their equivalents in this library."""

import re
from collections.abc import Mapping

_OPTIMIZER = "AdamW with PyTorch's defaults; for another optimizer, define a strategy (Strategy.by_pattern)."
_BEST = (
    "The weights of the epoch with the best validation accuracy are tested; {checkpoint.keep_best} says whose are kept."
)
_EVALUATED = "The validation split is evaluated after every epoch, the test split at the end of every run."
_LOGGED = "Every update and every epoch is logged as a line of the run's metrics.jsonl."
_SAVED = "Set {checkpoint.share}, the share of the time that saving may take, or {checkpoint.every_steps}."
_MEMORY = "Lower {train.micro_batch_tokens}: the same updates with less memory."
_UPLOADED = "Upload a finished run with flax-agnews export RUN --to FORMAT DIR --upload OWNER/NAME."
_SPREAD = "Set {parallel.devices}, and for several processes {parallel.coordinator} and {parallel.processes}."
_PACKED = "Texts are packed without padding, whatever their lengths."
_NO_WORKERS = "There are no workers: batches are assembled from token ids in memory."
_HALF = "Set {model.dtype} bfloat16; float16 isn't supported."
_COMPILED = "Every step is compiled by XLA anyway."
_OF_BODY = "It is given by the model; {model.from_config} makes a model of other sizes."
_PROJECTION = "There is no projection: the prefix's keys and values are trained directly."
_HEAD = "The head is always trained and saved; to train other weights too, define a strategy (Strategy.by_pattern)."
_ONE_RANK = "All layers of {lora.targets} have the same {lora.rank} and {lora.alpha}."

HINTS: Mapping[str, str] = {
    "output_dir": "Set {output}.",
    "overwrite_output_dir": "Set {overwrite}.",
    "resume_from_checkpoint": "Run the same command again: it resumes from the last checkpoint.",
    "do_train": _EVALUATED,
    "do_eval": _EVALUATED,
    "do_predict": "Classify texts with flax-agnews predict RUN.",
    # epochs, batches, optimizer
    "num_train_epochs": "Set {train.epochs}.",
    "max_steps": "Set {train.epochs}, or {data.limit_train} for fewer texts.",
    "per_device_train_batch_size": "Set {train.batch_size}, over all devices.",
    "gradient_accumulation_steps": (
        "Set {train.batch_size} to all texts of an update; it is split and summed by {train.micro_batch_tokens}."
    ),
    "auto_find_batch_size": _MEMORY,
    "gradient_checkpointing": _MEMORY,
    "activation_checkpointing": _MEMORY,
    "learning_rate": "Each strategy has its own, such as {full.learning_rate}; {search.trials} searches for the best.",
    "lr_scheduler_type": "Set {train.schedule}.",
    "lr_scheduler_kwargs": "Set {train.schedule}; it has no other parameters.",
    "warmup_ratio": "Set {train.warmup_fraction}.",
    "warmup_steps": "Set {train.warmup_fraction}, a share of all steps.",
    "weight_decay": "Set {train.weight_decay}.",
    "max_grad_norm": "Set {train.clip_norm}.",
    "label_smoothing_factor": "Set {train.label_smoothing}.",
    "optim": _OPTIMIZER,
    "optim_args": _OPTIMIZER,
    "adam_beta1": _OPTIMIZER,
    "adam_beta2": _OPTIMIZER,
    "adam_epsilon": _OPTIMIZER,
    # computation
    "bf16": "Set {model.dtype} bfloat16.",
    "bf16_full_eval": "Set {model.dtype} bfloat16.",
    "fp16": _HALF,
    "fp16_full_eval": _HALF,
    "torch_compile": _COMPILED,
    "torch_compile_backend": _COMPILED,
    "torch_compile_mode": _COMPILED,
    "tf32": "Set {model.precision}: default is TF32 on NVIDIA GPUs from Ampere on, highest is float32.",
    "use_cpu": "Set the environment variable JAX_PLATFORMS to cpu.",
    "no_cuda": "Set the environment variable JAX_PLATFORMS to cpu.",
    "full_determinism": "Set {train.deterministic}.",
    "seed": "Set {train.seed}.",
    "data_seed": "{train.seed} also seeds the batches; {data.split_seed} seeds the choice of validation rows.",
    "deepspeed": _SPREAD,
    "fsdp": _SPREAD,
    "fsdp_config": _SPREAD,
    "local_rank": _SPREAD,
    "ddp_backend": _SPREAD,
    # texts and batches
    "remove_unused_columns": "Only {data.text_column} and {data.label_column} are read.",
    "label_names": "Set {data.label_column}.",
    "group_by_length": _PACKED,
    "train_sampling_strategy": _PACKED,
    "dataloader_drop_last": "A short last batch is kept, and averaged over its texts.",
    "dataloader_num_workers": _NO_WORKERS,
    "dataloader_pin_memory": _NO_WORKERS,
    "dataloader_prefetch_factor": _NO_WORKERS,
    # evaluating, saving, logging
    "per_device_eval_batch_size": "Set {train.eval_batch_size}, over all devices.",
    "eval_strategy": _EVALUATED,
    "evaluation_strategy": _EVALUATED,
    "eval_steps": _EVALUATED,
    "load_best_model_at_end": _BEST,
    "metric_for_best_model": _BEST,
    "greater_is_better": _BEST,
    "save_strategy": _SAVED,
    "save_steps": "Set {checkpoint.every_steps}.",
    "save_total_limit": "Set {checkpoint.keep_last}.",
    "logging_strategy": _LOGGED,
    "logging_steps": _LOGGED,
    "logging_first_step": _LOGGED,
    "logging_dir": _LOGGED,
    "report_to": "Set {tracking.wandb}, {tracking.tensorboard}, or both.",
    "project": "Set {tracking.project}.",
    "run_name": "Runs are named by strategy and seed; {tracking.project} names the project.",
    "disable_tqdm": "Without a terminal, plain lines are printed instead of progress bars.",
    "push_to_hub": _UPLOADED,
    "hub_model_id": _UPLOADED,
    "hub_token": _UPLOADED,
    "hub_private_repo": _UPLOADED,
    # PEFT
    "peft_type": "Set {strategy}.",
    "task_type": "All strategies classify texts.",
    "base_model_name_or_path": "Set {model.name}.",
    "tokenizer_name_or_path": "Set {model.tokenizer}.",
    "r": "Set {lora.rank}.",
    "lora_alpha": "Set {lora.alpha}.",
    "lora_dropout": "Set {lora.dropout}.",
    "target_modules": "Set {lora.targets}.",
    "use_rslora": "Set {lora.rslora}.",
    "layers_to_transform": "Set {lora.top_layers}, the number of topmost layers.",
    "rank_pattern": _ONE_RANK,
    "alpha_pattern": _ONE_RANK,
    "modules_to_save": _HEAD,
    "num_virtual_tokens": "Set {prompt.tokens} or {prefix.tokens}.",
    "prompt_tuning_init": "Set {prompt.initializer}.",
    "prompt_tuning_init_text": "Set {prompt.initializer}; an initial text isn't supported.",
    "prefix_projection": _PROJECTION,
    "encoder_hidden_size": _PROJECTION,
    "token_dim": _OF_BODY,
    "num_layers": _OF_BODY,
    "num_attention_heads": _OF_BODY,
}
"""Name in `TrainingArguments` or PEFT -> a sentence about its equivalent here, with settings in braces."""


def hint(name: str, prefix: str = "") -> str | None:
    """A sentence about the equivalent of a setting of transformers or PEFT; None for a name that neither has.

    Args:
        name: the setting as the user wrote it: `num_train_epochs`, `train.num-train-epochs`.
        prefix: put before each setting that the sentence names, such as `--`.
    """
    found = HINTS.get(name.split(".")[-1].replace("-", "_"))
    return found and re.sub(r"\{([\w.]+)\}", rf"{prefix}\1", found)
