"""The options of commands that measure trials of several strategies, models, batch sizes and types."""

import argparse
from dataclasses import replace

from benchmarks.support.trial import MODELS, Trial

STRATEGIES, DTYPES = ("full", "prompt", "partial"), ("float32", "bfloat16")


def add_trials(parser: argparse.ArgumentParser, default: Trial, strategies: tuple[str, ...] = STRATEGIES) -> None:
    """Adds the options; `default` has those of a trial, and `strategies` are measured without `--strategies`."""
    parser.add_argument("--strategies", nargs="+", choices=STRATEGIES, default=strategies)
    parser.add_argument(
        "--models", nargs="+", default=["124M"], help=f"of {', '.join(MODELS)}; or a config.json's fields"
    )
    parser.add_argument("--batch_sizes", nargs="+", type=int, default=[default.batch_size])
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--dropouts", nargs="+", type=float, default=[default.dropout], help="rates of all dropouts")
    parser.add_argument("--micro_batch_tokens", type=int, help="most tokens that are computed at once")
    parser.add_argument("--attention", default=default.attention, help="implementation of attention (model.attention)")
    parser.add_argument("--shapes", type=int, default=default.shapes, help="most compiled shapes")
    parser.add_argument("--cache", help="folder of caches, for compiling sooner; by default an empty one")


def trials(options: argparse.Namespace) -> list[Trial]:
    """The trials that the options ask for."""
    default = Trial(
        shapes=options.shapes,
        data=options.data,
        tokenizer=options.tokenizer,
        micro_batch_tokens=options.micro_batch_tokens,
        attention=options.attention,
    )
    return [
        replace(default, model=model, batch_size=size, dtype=dtype, strategy=strategy, dropout=dropout)
        for model in options.models
        for size in options.batch_sizes
        for dtype in options.dtypes
        for strategy in options.strategies
        for dropout in options.dropouts
    ]
