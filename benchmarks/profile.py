"""`python -m benchmarks.profile`: where the device's time in a training step goes, by part of the model.

From a trace of JAX's profiler, and the names of the model's parts in the compiled programs. Writes
`results/profile.{json,md}`; earlier results of other configurations stay in the files if commit and settings are the
same.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict

from benchmarks.support.result_files import ResultFiles, add_common, made_line
from benchmarks.support.trial import Record, Trial
from benchmarks.support.trial_options import add_trials, trials
from benchmarks.support.workers import Worker

# Nothing here imports JAX: a worker imports its parent's modules before its environment is set.

SHOWN = 15
"""Number of single operations in a table."""


def environment(cpu: bool, nvidia: bool, folder: str) -> dict[str, str]:
    """Environment variables of the process that is traced.

    Args:
        cpu: whether to use the CPU even where there is an accelerator.
        nvidia: whether the machine has an NVIDIA GPU, where kernels of a command buffer would have no names.
        folder: folder of caches.
    """
    chosen = {"FLAX_AGNEWS_CACHE": folder, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    if cpu:
        return {**chosen, "JAX_PLATFORMS": "cpu"}
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_enable_command_buffer="
    return {**chosen, "XLA_FLAGS": flags.strip()} if nvidia else chosen


def profiled(trial: Trial, repeats: int, cpu: bool, cache: str | None = None) -> Record:
    """Traces a trial in a new process; returns its facts. `cache` is the folder of caches, by default an empty one."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        given = (trial, f"{folder}/output", repeats)
        how = environment(cpu, shutil.which("nvidia-smi") is not None, cache or folder)
        with Worker("benchmarks.support.profiled_steps:build", given, True, how) as worker:
            return worker.facts


def page(record: Record) -> str:
    """The page of results in Markdown."""
    lines = [
        "# Where a training step's time goes",
        "",
        "Seconds of the device's kernels by part of the model, from a trace of JAX's profiler; random weights, real AG",
        "News texts. A kernel that computes several parts counts where its matrix product belongs, or else where its",
        "result does. Bytes: the sizes of a kernel's operands and results, as if each were read or written once; of",
        "what it slices or updates that part. On a GPU the programs are traced without command buffers, so that each",
        "kernel has a name.",
        "",
        made_line(record),
    ]
    for name, entry in record["entries"].items():
        lines += ["", f"## {name}", "", *_summary(entry), "", *_parts(entry), "", *_operations(entry)]
    return "\n".join(lines) + "\n"


def _summary(entry: Record) -> Sequence[str]:
    idle = 1 - entry["busy_seconds"] / entry["traced_seconds"]
    return [
        f"{1e3 * entry['seconds']:.2f} ms a step of {entry['tokens']:,.0f} real tokens, {_rate(entry)}; "
        f"{1e3 * entry['traced_seconds']:.2f} ms while traced, of which nothing ran in {100 * idle:.0f} %. "
        f"Shapes: {', '.join(f'{tokens:,}' for tokens in entry['shapes'])} tokens; attention: {entry['attention']}."
    ]


def _rate(entry: Record) -> str:
    """Model FLOP utilisation: the rate of the FLOP that a step needs, as a share of the best matrix product's."""
    rate, peak = entry["flops"] / entry["seconds"], entry["peak_flops_per_second"]
    return f"{rate / 1e12:.2f} TFLOP/s, {100 * rate / peak:.1f} % of the best product's {peak / 1e12:.2f}"


def _parts(entry: Record) -> Sequence[str]:
    total = sum(row["seconds"] for row in entry["parts"])
    lines = [
        "| part | forward, ms | backward, ms | together, ms | share | GB moved | GB/s | kernels |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    names = {row["part"]: 0.0 for row in entry["parts"]}
    for row in entry["parts"]:
        names[row["part"]] += row["seconds"]
    for part in [*sorted(names, key=lambda name: -names[name]), None]:
        rows = [row for row in entry["parts"] if part in (row["part"], None)]
        forward, backward = (sum(row["seconds"] for row in rows if row["backward"] == way) for way in (False, True))
        moved, seconds = sum(row["bytes"] for row in rows), forward + backward
        cells = [part or "all", f"{1e3 * forward:.3f}", f"{1e3 * backward:.3f}", f"{1e3 * seconds:.3f}"]
        cells += [f"{100 * seconds / total:.1f} %", f"{moved / 1e9:.3f}", f"{moved / 1e9 / seconds:.0f}"]
        cells.append(f"{sum(row['kernels'] for row in rows):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _operations(entry: Record) -> Sequence[str]:
    lines = [
        f"The {SHOWN} operations that take the most time:",
        "",
        "| operation | part | ms | times | GB moved | from |",
        "|---|---|---:|---:|---:|---|",
    ]
    for row in entry["operations"][:SHOWN]:
        part = f"{row['part']}{', backward' if row['backward'] else ''}"
        moved = f"{row['bytes'] * row['times'] / 1e9:.3f}" if "bytes" in row else ""
        path = f"`{row['path']}`" if row.get("path") else f"`{row['kernel'][:60]}`"
        lines.append(f"| {row['name']} | {part} | {1e3 * row['seconds']:.3f} | {row['times']:g} | {moved} | {path} |")
    return lines


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_trials(made, Trial(shapes=1), strategies=("full",))
    add_common(made, repeats=3, data=Trial.data)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Traces the trials, and writes the files after each."""
    options = parser().parse_args(arguments)
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # the processes would inherit it
    settings = {name: getattr(options, name) for name in ("repeats", "shapes", "data", "device")}
    files = ResultFiles(options.results, "profile", settings, page, None)
    for trial in trials(options):
        facts = profiled(trial, options.repeats, options.device == "cpu", options.cache)
        entry = {name: value for name, value in facts.items() if name != "on"}
        files.add(trial.label, {"trial": asdict(trial), **entry}, facts["on"])
    print(page(files.record))


if __name__ == "__main__":
    main()
