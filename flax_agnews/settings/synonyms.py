"""Names of settings in transformers' `TrainingArguments` and PEFT's configurations, and what they are called here."""

import re
from collections.abc import Mapping

_OPTIMIZER = "AdamW has PyTorch's defaults; another optimizer is a strategy of your own (Strategy.by_pattern)."
_BEST = "The best epoch by validation accuracy is what is tested; {checkpoint.keep_best} says whose weights stay."
_EVALUATED = "Every epoch ends with the validation split, and every run with the test split."
_LOGGED = "Every update and epoch is a line of the run's metrics.jsonl."
_SAVED = "Set {checkpoint.share}, the share of the time that saving may cost, or {checkpoint.every_steps}."
_MEMORY = "Lower {train.micro_batch_tokens}: the same numbers in less memory."
_UPLOADED = "A finished run is uploaded by python -m flax_agnews.export RUN --to FORMAT DIR --upload OWNER/NAME."
_SPREAD = "Set {parallel.devices}, and for several processes {parallel.coordinator} and {parallel.processes}."
_PACKED = "Texts are packed without padding, whatever their lengths."
_NO_WORKERS = "There are no workers: batches are put together from tokens in memory."
_HALF = "Set {model.dtype} bfloat16; float16 isn't supported."
_COMPILED = "Every step is compiled by XLA as it is."
_OF_BODY = "It is the body's own; {model.from_config} makes another body."
_PROJECTION = "There is none: the keys and values of the prefix train themselves."
_HEAD = "The head always trains and is always saved; other weights train by a strategy of your own."
_ONE_RANK = "One {lora.rank} and one {lora.alpha} hold for all of {lora.targets}."

HINTS: Mapping[str, str] = {
    "output_dir": "Set {output}.",
    "overwrite_output_dir": "Set {overwrite}.",
    "resume_from_checkpoint": "Run the same command again: it goes on from the last saved state.",
    "do_train": _EVALUATED,
    "do_eval": _EVALUATED,
    "do_predict": "python -m flax_agnews.predict RUN answers texts.",
    # how long, how much, how fast
    "num_train_epochs": "Set {train.epochs}.",
    "max_steps": "Set {train.epochs}, or {data.limit_train} for fewer texts.",
    "per_device_train_batch_size": "Set {train.batch_size}, over all devices.",
    "gradient_accumulation_steps": (
        "Set {train.batch_size} to all texts of an update; it is split and summed by {train.micro_batch_tokens}."
    ),
    "auto_find_batch_size": _MEMORY,
    "gradient_checkpointing": _MEMORY,
    "activation_checkpointing": _MEMORY,
    "learning_rate": "Each strategy has its own, such as {full.learning_rate}; {search.trials} has them chosen.",
    "lr_scheduler_type": "Set {train.schedule}.",
    "lr_scheduler_kwargs": "Set {train.schedule}, which has no other parameters.",
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
    # how it computes
    "bf16": "Set {model.dtype} bfloat16.",
    "bf16_full_eval": "Set {model.dtype} bfloat16.",
    "fp16": _HALF,
    "fp16_full_eval": _HALF,
    "torch_compile": _COMPILED,
    "torch_compile_backend": _COMPILED,
    "torch_compile_mode": _COMPILED,
    "use_cpu": "Set the environment variable JAX_PLATFORMS to cpu.",
    "no_cuda": "Set the environment variable JAX_PLATFORMS to cpu.",
    "full_determinism": "Set {train.deterministic}.",
    "seed": "Set {train.seed}.",
    "data_seed": "{train.seed} decides the batches, too; {data.split_seed} decides what validates.",
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
    "report_to": "Set {tracking.wandb}.",
    "project": "Set {tracking.project}.",
    "run_name": "Runs are called by strategy and seed; {tracking.project} names the project.",
    "disable_tqdm": "Where the output is no terminal, there are plain lines.",
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
    "layers_to_transform": "Set {lora.top_layers}, for the topmost.",
    "rank_pattern": _ONE_RANK,
    "alpha_pattern": _ONE_RANK,
    "modules_to_save": _HEAD,
    "num_virtual_tokens": "Set {prompt.tokens} or {prefix.tokens}.",
    "prompt_tuning_init": "Set {prompt.initializer}.",
    "prompt_tuning_init_text": "Set {prompt.initializer}; no text can be given.",
    "prefix_projection": _PROJECTION,
    "encoder_hidden_size": _PROJECTION,
    "token_dim": _OF_BODY,
    "num_layers": _OF_BODY,
    "num_attention_heads": _OF_BODY,
}
"""Name there -> what it is here, with settings in braces."""


def hint(name: str, prefix: str = "") -> str | None:
    """A sentence that names the setting here for one of transformers or PEFT; None for a name that neither has.

    Args:
        name: as it was given: `num_train_epochs`, `train.num-train-epochs`.
        prefix: before each setting that is named, such as `--`.
    """
    found = HINTS.get(name.split(".")[-1].replace("-", "_"))
    return found and re.sub(r"\{([\w.]+)\}", rf"{prefix}\1", found)
