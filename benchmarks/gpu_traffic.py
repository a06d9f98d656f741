"""`python -m benchmarks.gpu_traffic`: bytes that a training step moves on a GPU, counted without one.

XLA compiles GPT-2's programs for an H100 from its description; bytes are those of the compiled programs' kernels. Needs
JAX's plugin for CUDA, but no GPU. Writes `results/gpu_traffic.{json,md}`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support.circumstances import RESULTS
from benchmarks.support.gpu_target import FLAGS, MISSING, available
from benchmarks.support.model_parts import ATTENTION, LINEAR, PARTS
from benchmarks.support.result_files import ResultFiles, made_line
from benchmarks.support.trial import Record

WIDTH, LAYERS, WEIGHTS = 768, 12, 124_442_880
"""GPT-2's width, layers and weights, without a head of four classes."""

MEMORY = {"H100": 3.0e12, "H200": 4.3e12}
"""Bytes per second that a copy reads and writes together, as measured."""

FLOPS = 686e12
"""FLOP per second of the best product in bfloat16 with float32 results, measured on an H200."""

FLOPS_PER_TOKEN = 12.7e12 / 26_700
"""FLOP in products of a training step, per token."""


def measured(library: Path, texts: int, *cases: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and counts of each case of a version of the library, in a new process.

    Args:
        library: folder that has the package.
        texts: texts per micro-batch.
        cases: names of the cases to count; by default all that the version has.
    """
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}".strip()
    how = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    command = [sys.executable, "-m", "benchmarks.support.gpu_programs", str(library), str(texts), *cases]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=how) as process:
        for line in process.stdout or ():
            found = json.loads(line)
            yield found["name"], found
    if process.returncode:
        raise SystemExit(f"compiling ended with exit code {process.returncode}")


def page(record: Record) -> str:
    """The page of results in Markdown."""
    entries = record["entries"]
    lines = [
        "# What a training step moves through a GPU's memory",
        "",
        "Counted, not measured: GPT-2 124M's gradients as XLA compiles them for an H100, without the device. A",
        "kernel's bytes are those of its operands and results, each once; of what it slices at once, that part. In",
        "units of the number of tokens times the width (768) in bytes: to read an array of hidden units in bfloat16 is",
        "2 units, in float32 4. A middle layer is the difference between programs with three layers and with two.",
        "Kernels are chosen without trying them: on a device, matrix products may be others, with other kernels beside",
        "them.",
        "",
        made_line(record),
        "",
        f"{record['settings']['texts']} texts, bfloat16, gradients of all weights. Rows: a stand-in for cuDNN's kernel",
        "reads and writes what that does, so what is counted is mostly moving tokens to rows and back.",
    ]
    for version in dict.fromkeys(entry["version"] for entry in entries.values()):
        own = [entry for entry in entries.values() if entry["version"] == version]
        lines += ["", f"## {version}", ""]
        lines += _parts([entry for entry in own if "parts" in entry])
        lines += ["", *_whole([entry for entry in own if "parts" in entry], own[-1].get("units"))]
    return "\n".join(lines) + "\n"


def units(entry: Record, backward: bool | None = None, part: str | None = None) -> float:
    """Units that a middle layer moves: forward, backward or both; of one part or all."""
    rows = entry["parts"]
    return float(sum(r["units"] for r in rows if backward in (None, r["backward"]) and part in (None, r["part"])))


def _parts(entries: Sequence[Record]) -> list[str]:
    lines = [
        f"| units of a middle layer, forward + backward | {' | '.join(entry['name'] for entry in entries)} |",
        f"|---|{'---:|' * len(entries)}",
    ]
    for part in (*PARTS, None):
        pairs = [(units(entry, False, part), units(entry, True, part)) for entry in entries]
        if any(max(pair) > 0.05 for pair in pairs):
            cells = [f"{ahead:.0f} + {back:.0f}" if part else f"**{ahead + back:.0f}**" for ahead, back in pairs]
            lines.append(f"| {part or 'all'} | {' | '.join(cells)} |")
    return lines


def _whole(entries: Sequence[Record], update: float | None) -> list[str]:
    lines = []
    if update:
        lines += [
            f"An update (AdamW, with clipping) moves {update:.2f} times 4 bytes a weight. Its least is 8 times: the "
            "gradient twice (once for the norm), the weight and two moments read and written.",
            "",
        ]
    lines += [
        "An **estimate** of a step with 12 layers: the bytes outside linear products at the speed that a copy has on "
        f"the device, and products at the best product's {FLOPS / 1e12:.0f} TFLOP/s (an H200's), one after the other.",
        "",
        "| | GB moved, all | GB outside linear products | products, ms | H100: memory, ms | H200: memory, ms |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for entry in entries:
        unit, own = entry["tokens"] * WIDTH, 4 * WEIGHTS * (update or 0)
        every = (entry["rest"] + (LAYERS - 2) * units(entry)) * unit + own
        # The rest is mostly a layer too; its products are counted as a layer's.
        outside = every - (LAYERS - 1) * units(entry, part=LINEAR) * unit
        cells = [f"{every / 1e9:.1f}", f"{outside / 1e9:.1f}", f"{1e3 * entry['tokens'] * FLOPS_PER_TOKEN / FLOPS:.1f}"]
        cells += [f"{1e3 * outside / speed:.1f}" for speed in MEMORY.values()]
        lines.append(f"| {entry['name']} | {' | '.join(cells)} |")
    floor = [f"{units(entry, part=LINEAR):.0f}" for entry in entries[:1]]
    lines += [
        "",
        f"Linear products alone move {', '.join(floor)} units a layer, their floor; attention's products are the rows "
        f"`{ATTENTION}` above.",
    ]
    return lines


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--texts", type=int, default=512, help="texts per micro-batch")
    made.add_argument("--before", type=Path, help="folder with an earlier version of the library, counted too")
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Counts every case, and writes the files after each."""
    options = parser().parse_args(arguments)
    if not available():
        raise SystemExit(f"benchmarks.gpu_traffic {MISSING}")
    files = ResultFiles(options.results, "gpu_traffic", {"texts": options.texts}, page, None)
    here = {"now": Path(__file__).resolve().parents[1]}
    for version, folder in {**here, **({"before": options.before} if options.before else {})}.items():
        for name, entry in measured(folder, options.texts):
            files.add(f"{version}, {name}", {**entry, "version": version}, {"backend": "compiled", "device": "H100"})
    print(page(files.record))


if __name__ == "__main__":
    main()
