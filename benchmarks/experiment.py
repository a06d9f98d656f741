"""`python -m benchmarks.experiment`: the original experiment as people run it, timed by its parts.

Three strategies, three runs of five epochs each, 128 texts an update, bfloat16, GPT-2's dropout; evaluations, saving
and the report included: `python -m flax_agnews.main` in a process of its own, cold with empty caches, and with `--warm`
once more with what the first one cached. Random weights. Writes `results/experiment.{json,md}`, and each process's
output beside them.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.result_files import ResultFiles, add_common, made_line
from benchmarks.support.trial import Record, Trial
from benchmarks.support.watched_commands import Watched, lines, parts, watch
from benchmarks.waiting import where
from flax_agnews.report import read_results
from flax_agnews.runs.results import Results, mean_cost
from flax_agnews.system.files import write_atomic

ROOT = Path(__file__).resolve().parents[1]

BEFORE = ("import", "read", "tokenize", "plan")
"""Parts of the log before anything is compiled."""


def command_line(options: argparse.Namespace, output: Path) -> list[str]:
    """The experiment's flags; all that isn't among them has its default."""
    chosen: dict[str, Any] = {
        "strategy": ",".join(options.strategies),
        "output": output,
        "model.from_config": Trial(model=options.model).json,
        "model.tokenizer": where(options.tokenizer),
        "model.dtype": options.dtype,
        "data.source": where(options.data),
        "train.runs": options.runs,
        "train.epochs": options.epochs,
        "train.batch_size": options.batch_size,
        "tracking.wandb": "disabled",
    }
    if options.rows:
        chosen |= {"data.limit_train": options.rows, "data.limit_test": max(8, options.rows // 10)}
    given = [part for name, value in chosen.items() for part in (f"--{name}", str(value))]
    return [*given, *shlex.split(options.flags)]


def run(options: argparse.Namespace, cache: Path, limit: float | None) -> tuple[Watched, Results | None]:
    """Runs the experiment once; returns the process, and the results of the runs that it has finished.

    Args:
        options: the command's options.
        cache: folder of caches.
        limit: seconds after which it is stopped; None for none.

    Raises:
        SystemExit: it failed; the message has the end of its output.
    """
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "FLAX_AGNEWS_CACHE": str(cache), "PYTHONPATH": path}
    environment |= {"JAX_PLATFORMS": "cpu"} if options.device == "cpu" else {}
    with tempfile.TemporaryDirectory(prefix="experiment-") as folder:
        output = Path(folder) / "output"
        command = [sys.executable, "-m", "flax_agnews.main", *command_line(options, output)]
        done = watch(command, Path(folder), environment, limit=limit)
        if done.code and not done.stopped:
            raise SystemExit(f"the experiment ended with {done.code}:\n{done.text[-4000:]}")
        return done, read_results(output) if (output / "results.json").exists() else None


def entry(done: Watched, results: Results | None) -> Record:
    """A start's entry in the JSON file."""
    strategies = {} if results is None else {name: strategy(runs) for name, runs in results.by_strategy.items()}
    return {
        "wall": done.wall,
        "processor": done.processor,
        "stopped": done.stopped,
        "parts": seconds_by_part(done, strategies),
        "strategies": strategies,
    }


def strategy(runs: Sequence[Any]) -> dict[str, Any]:
    """Sums and means of a strategy's finished runs: seconds, real tokens per second, test accuracy."""
    mean = mean_cost(runs)
    return {
        "runs": len(runs),
        "compile": mean.compile_seconds or 0.0,  # once for all runs, and in the record of each
        "cache": mean.cache_seconds or 0.0,
        "train": sum(one.cost.train_seconds or 0.0 for one in runs),
        "tokens_per_second": mean.tokens_per_second,
        "peak_memory_bytes": mean.peak_memory_bytes,
        "test_accuracy": sum(one.test_accuracy for one in runs) / len(runs),
    }


def seconds_by_part(done: Watched, strategies: Record) -> dict[str, float]:
    """Divides a process's seconds: start, waiting for the compiler, caching, training, evaluation and saving, report.

    Compiling, caching and training are what the finished runs have recorded, since the next strategy may be compiled
    while one trains; start and report are times between lines of the output. Evaluation and saving are the rest, and
    in a stopped experiment all of the run that wasn't finished.
    """
    printed = parts(lines(done.chunks), done.wall)
    recorded = {name: sum(one[name] for one in strategies.values()) for name in ("compile", "cache", "train")}
    found = {"start": sum(printed.get(name, 0.0) for name in BEFORE), **recorded}
    rest = done.wall - sum(found.values()) - printed.get("report", 0.0)
    return {**found, "evaluate and save": rest, "report": printed.get("report", 0.0)}


def page(record: Record) -> str:
    """The page of results in Markdown."""
    settings, entries = record["settings"], record["entries"]
    names = list(next(iter(entries.values()))["parts"])
    out = [
        "# The original experiment",
        "",
        f"{', '.join(settings['strategies'])}: {settings['runs']} runs x {settings['epochs']} epochs each,",
        f"{settings['batch_size']} texts an update, {settings['dtype']}, {settings['rows'] or 'all'} rows of",
        f"`{Path(settings['data']).name}`, GPT-2 {Trial(model=settings['model']).model_text} with random weights;",
        "whole processes, with evaluations, checkpoints and report. Compile: waiting for the compiler.",
        *([f"More flags: `{settings['flags']}`."] if settings["flags"] else []),
        "",
        made_line(record),
        "",
        f"| start | seconds | of processor time | {' | '.join(names)} | |",
        f"|---|---:|---:|{'---:|' * len(names)}---|",
    ]
    for name, one in entries.items():
        cells = [name, f"{one['wall']:.1f}", f"{one['processor']:.0f}", *(f"{one['parts'][n]:.1f}" for n in names)]
        out.append(f"| {' | '.join(cells)} | {'stopped before its end' if one['stopped'] else ''} |")
    out += [
        "",
        "| start | strategy | finished runs | compile, s | cache, s | training, s | real tokens/s | test accuracy |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, one in entries.items():
        for of, found in one["strategies"].items():
            seconds = [f"{found[n]:.1f}" for n in ("compile", "cache", "train")]
            cells = [name, of, str(found["runs"]), *seconds, f"{found['tokens_per_second'] or 0:,.0f}"]
            cells.append(f"{found['test_accuracy']:.3f}")
            out.append(f"| {' | '.join(cells)} |")
    return "\n".join(out) + "\n"


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--strategies", nargs="+", default=["full", "prompt", "partial"])
    made.add_argument("--runs", type=int, default=3, help="runs of each strategy")
    made.add_argument("--epochs", type=int, default=5)
    made.add_argument("--batch_size", type=int, default=128, help="texts an update")
    made.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    made.add_argument("--rows", type=int, help="rows of the training file; all by default")
    made.add_argument("--model", default="124M", help="a name of benchmarks.throughput, or a config.json's fields")
    made.add_argument("--flags", default="", help="more flags of the experiment, in one argument")
    made.add_argument("--warm", action="store_true", help="also once more, with what was cached")
    made.add_argument("--limit", type=float, help="seconds after which it is stopped; its finished runs count")
    add_common(made, repeats=1, data="../shared/ag_news_large")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the experiment, and writes the files after each start."""
    options = parser().parse_args(arguments)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the process would inherit it
    kept = ("strategies", "runs", "epochs", "batch_size", "dtype", "rows", "model", "flags", "data", "device")
    files = ResultFiles(options.results, "experiment", {n: getattr(options, n) for n in kept}, page, None)
    left = options.limit
    with tempfile.TemporaryDirectory(prefix="experiment-cache-") as cache:
        for start in ("cold", "warm") if options.warm else ("cold",):
            done, results = run(options, Path(cache), left)
            write_atomic(options.results / f"experiment_{start}.log", done.text.encode())
            machine = {} if results is None else results.environment
            on = {"backend": machine.get("devices", "unknown"), "device": machine.get("machine", "unknown")}
            files.add(start, entry(done, results), on)
            left = left and left - done.wall
            if done.stopped or (left is not None and left <= 0):
                break
    print(page(files.record))


if __name__ == "__main__":
    main()
