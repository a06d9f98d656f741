"""Measures the gain of each saving (`python -m benchmarks.throughput --without NAME`): training with and without it.

Both trainings run interleaved, in separate processes, on the same batches; the gain is the ratio of their medians.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from benchmarks.support.bar_charts import BAR, BLUE, Bar, draw_bars, figure, png
from benchmarks.support.result_files import gibibytes, made_line
from benchmarks.support.trial import Record, Result, Trial, measure, started, take_turns
from flax_agnews.data.shapes import MOST

SEEDS = (1, 2, 4)
SEEDS_BATCH_SIZES = (8, 32)


class Saving(NamedTuple):
    """A saving that can be turned off, and how its gain is measured.

    Attributes:
        instead: what happens without the saving, in words.
        strategy, dtype: strategy and type of products in which the saving is measured.
        shapes: most compiled shapes with the saving; None for the benchmark's setting.
    """

    instead: str
    strategy: str = "full"
    dtype: str = "float32"
    shapes: int | None = None


SAVINGS: Mapping[str, Saving] = {
    "packing": Saving("every text padded to 128 tokens (longer ones cut)"),
    "packing_256": Saving("every text padded to 256 tokens, 2,048 tokens at once"),
    "lookback": Saving("every block of attention looks back as far as the longest text"),
    "prompt_once": Saving("the prompt's 20 vectors are tokens of every text", "prompt"),
    "pooled": Saving("the last layer for all tokens"),
    "cache": Saving("frozen layers computed in every step (the cache is warm)", "partial"),
    "products": Saving("backward products by autodiff: float32 times bfloat16", dtype="bfloat16"),
    "allocator": Saving("freed memory goes back to the system"),
    "shapes": Saving("one compiled shape instead of six", shapes=MOST),
    "donation": Saving("the state's memory is not reused"),
}
"""Name -> saving; `benchmarks.support.without_savings.CHANGES` turns each off."""

GROUPS = ("parallel_seeds", "compilation_cache")
"""Savings that are not a single `Change`, each measured by the function of its name."""

NAMES = (*SAVINGS, *GROUPS)

Row = dict[str, Any]

Keep = Callable[[str, Row, Record], None]
"""Callback with the name and row of a saving, and facts about the device that it was measured on."""


def row(instead: str, trial: Trial, with_it: Result, without: Result, measured: str = "tokens_per_second") -> Row:
    """A saving's row in the JSON file; its `gain` is the speed with the saving divided by the speed without it."""
    mine, other = with_it.record, without.record
    ratio = mine[measured] / other[measured]
    return {
        "instead": instead,
        "strategy": trial.strategy,
        "dtype": trial.dtype,
        "model": trial.model_text,
        "batch_size": trial.batch_size,
        "measured": measured,
        "gain": ratio if measured == "tokens_per_second" else 1 / ratio,
        "with": mine,
        "without": other,
    }


def run(names: Sequence[str], default: Trial, repeats: int, cpu: bool, keep: Keep) -> None:
    """Measures the savings, and calls `keep` with each row as soon as it is measured.

    Args:
        names: savings to measure, out of `NAMES`.
        default: trial with the model, batch size, shapes and texts to use.
        repeats: number of steps after the warm-up.
        cpu: whether to use the CPU even where there is an accelerator.
        keep: called with each row.
    """
    bases: dict[Trial, list[str]] = {}
    for name in names:
        if name in SAVINGS:
            bases.setdefault(with_all(SAVINGS[name], default), []).append(name)
    for base, switches in bases.items():
        with started(base, repeats, cpu) as ours:
            for name in switches:
                with started(replace(base, without=name), repeats, cpu) as other:
                    mine, slower = take_turns([ours, other], repeats)
                    keep(name, row(SAVINGS[name].instead, base, mine, slower), ours.facts["on"])
    if "parallel_seeds" in names:
        parallel_seeds(default, repeats, cpu, keep)
    if "compilation_cache" in names:
        compilation_cache(default, cpu, keep)


def with_all(saving: Saving, default: Trial) -> Trial:
    """The trial with all savings, against which one saving is measured."""
    shapes = saving.shapes or default.shapes
    return replace(default, strategy=saving.strategy, dtype=saving.dtype, shapes=shapes)


def parallel_seeds(default: Trial, repeats: int, cpu: bool, keep: Keep) -> None:
    """Measures seeds that train together against a single one, on a small model; the tokens of all seeds count."""
    model = "mini" if default.model == "124M" else default.model
    for size in SEEDS_BATCH_SIZES:
        trials = [replace(default, model=model, batch_size=size, seeds=n, runs=max(SEEDS)) for n in SEEDS]
        one, *several = measure(trials, repeats, cpu)
        for trial, result in zip(trials[1:], several, strict=True):
            made = row("one seed at a time", trial, result, one)
            keep(f"{trial.seeds} parallel_seeds, batch {size}", made, result.facts["on"])


def compilation_cache(default: Trial, cpu: bool, keep: Keep) -> None:
    """Measures the seconds to compile with and without the compiled programs of an earlier process."""
    name, instead = "compilation_cache", "nothing kept of what earlier processes compiled"
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        results = []
        for trial in (default, default, replace(default, without=name)):
            with started(trial, 1, cpu, folder) as worker:
                results += take_turns([worker], 1)
    _, second, without = results
    keep(name, row(instead, default, second, without, "compile_seconds"), second.facts["on"])


def page(record: Record) -> str:
    """The page of results in Markdown."""
    lines = [
        "# What each saving gains",
        "",
        f"{record['settings']['repeats']} training steps with all savings and without one, interleaved, in a process",
        "each, on the same real AG News batches after a warm-up; random weights, dropout 0. Only the texts' own tokens",
        "count. Gain: the ratio of the medians, above 1 where the saving makes training faster. Memory: the peak of a",
        f"step of the largest shape. At most {record['settings']['shapes']} compiled shapes, except for `shapes`.",
        "",
        made_line(record),
        "",
        "| saving | without it | measured in | with | without | gain | memory with / without, GiB | padding |",
        "|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, entry in record["entries"].items():
        where = f"{entry['strategy']}, {entry['dtype']}, {entry['model']}, batch {entry['batch_size']}"
        mine, other = entry["with"], entry["without"]
        memory = " / ".join(gibibytes(one["memory_bytes"]) for one in (mine, other))
        padding = " / ".join(f"{100 * one['waste']:.0f} %" for one in (mine, other))
        speeds = " | ".join(_value(one, entry["measured"]) for one in (mine, other))
        lines.append(
            f"| {name} | {entry['instead']} | {where} | {speeds} | {entry['gain']:.2f} | {memory} | {padding} |"
        )
    return "\n".join(lines) + "\n"


def _value(record: Record, measured: str) -> str:
    if measured == "compile_seconds":
        return f"{record[measured]:.1f} s to compile"
    return f"{record[measured]:.0f} tokens/s [{record['least']:.0f} - {record['most']:.0f}]"


def picture(record: Record) -> bytes:
    """The picture of results as PNG: the gain of each saving."""
    entries = record["entries"]
    made = record["made"]
    drawn = figure(9, 1.6 + BAR * len(entries), f"What each saving gains\n{made['processor']}, JAX {made['jax']}")
    axes = drawn.subplots()
    bars = [
        Bar(f"{name} ({e['strategy']}, {e['dtype']})", e["gain"], e["gain"], e["gain"], f"{e['gain']:.2f} x", BLUE)
        for name, e in entries.items()
    ]
    draw_bars(axes, bars, "speed with all savings, in units of the speed without this one (1: no gain)")
    axes.axvline(1, color="#444444", linewidth=1)
    return png(drawn)
