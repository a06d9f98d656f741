"""`python -m benchmarks.faults`: a comparison that is killed again and again ends with the bytes of an undisturbed one.

Also what saving costs while a full-size model trains. Writes `results/faults.{json,md}`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.book import Book, add_common, made_line
from benchmarks.harness import Worker
from benchmarks.record import RESULTS
from benchmarks.trial import SEED, Record

BODY = {"model_type": "gpt2", "vocab_size": 300, "n_positions": 64, "n_embd": 32, "n_layer": 2, "n_head": 2}
FLAGS = {
    "model.from_config": json.dumps(BODY),
    "strategy": "full,partial,prompt",
    "data.source": "builtin",
    "data.max_length": 32,
    "data.limit_train": 600,
    "data.limit_test": 100,
    "pretrain.epochs": 1,
    "pretrain.batch_size": 2,
    "train.runs": 2,
    "train.epochs": 3,
    "train.batch_size": 2,
    "train.shapes": 1,
    "tracking.wandb": "disabled",
}
PHASES = ("starting, compiling", "language modelling", "training or evaluating", "in the middle of a save")


def start(output: Path, cache: Path) -> "subprocess.Popen[bytes]":
    """The command, in a process of its own, with a cache folder of its own."""
    flags = [part for name, value in FLAGS.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "flax_agnews.main", *flags, "--output", str(output)]
    environment = os.environ | {"FLAX_AGNEWS_CACHE": str(cache), "JAX_PLATFORMS": "cpu"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: "subprocess.Popen[bytes]") -> str:
    """What a process that isn't disturbed has printed."""
    said = process.communicate()[0].decode()
    if process.returncode:
        raise SystemExit(f"the command ended with {process.returncode}:\n{said}")
    return said


def phase(output: Path) -> str:
    """Where a process was that is gone, by what it left."""
    if list(output.rglob(".*.draft")) or list(output.rglob(".*.gone")):
        return PHASES[3]
    if list(output.glob("*/seed-*")):
        return PHASES[2]
    return PHASES[1] if (output / "pretrain").exists() else PHASES[0]


def end(output: Path) -> dict[str, Any]:
    """All that must be the same: results without costs, metrics, arrays."""
    results = json.loads((output / "results.json").read_text())
    for run in results["runs"]:
        del run["cost"]
    named = ((path.relative_to(output).as_posix(), path) for path in sorted(output.rglob("*")) if path.is_file())
    kept = {
        name: path.read_bytes()
        for name, path in named
        if name.endswith("metrics.jsonl") or ("/arrays/state/" in name and path.name[0] != "_")
    }
    return {"results": results, **kept}


def kills(most: int, folder: Path) -> dict[str, Any]:
    """Kills experiments at random moments, so many times in all, and lets each end."""
    rng, counts, went_on, damaged = np.random.default_rng(SEED), Counter[str](), 0, 0
    ends: list[bool] = []
    cache = folder / "cache"
    finish(start(folder / "undisturbed", folder / "own-cache"))
    reference, done = end(folder / "undisturbed"), 0
    while done < most:
        output = folder / f"out-{len(ends)}"
        process = start(output, cache)
        while done < most:
            try:
                process.wait(rng.uniform(0, 16))
                break
            except subprocess.TimeoutExpired:
                process.kill()
            said = process.communicate()[0].decode()
            went_on, damaged = went_on + said.count("goes on at"), damaged + said.count("damaged")
            counts[phase(output)] += 1
            done += 1
            print(f"kill {done}: {phase(output)}", flush=True)
            process = start(output, cache)
        damaged += finish(process).count("damaged")
        ends.append(end(output) == reference)
        shutil.rmtree(output)
    return {"kills": dict(counts), "went_on": went_on, "damaged": damaged, "experiments": len(ends), "equal": sum(ends)}


def page(record: Record) -> str:
    """The record in Markdown."""
    entries, lines = record["entries"], ["# Faults", "", made_line(record)]
    if found := entries.get("kills"):
        counts = found["kills"]
        lines += [
            "",
            "## Killed again and again",
            "",
            f"SIGKILL at random moments, {sum(counts.values())} times, each followed by the same command: a small "
            "GPT-2 on generated texts, three strategies with two seeds, language modelling first, dropout on, frozen "
            "layers cached.",
            "",
            "| killed while | times |",
            "|---|---:|",
            *(f"| {name} | {counts.get(name, 0)} |" for name in PHASES),
            "",
            f"Restarts that went on from a saved state: {found['went_on']} (a process may take up several runs). "
            f"Damaged states met: {found['damaged']}. Of {found['experiments']} experiments that were so disturbed, "
            f"{found['equal']} ended with the bytes of the undisturbed one (results but for costs, metrics, weights).",
        ]
    if found := entries.get("cost"):
        lines += [
            "",
            "## What saving costs",
            "",
            f"`full`, GPT-2 124M, {found['texts']} texts an update: a state of {found['bytes'] / 1e9:.2f} GB, saved "
            f"{found['saves']} times, in the background. Training waited {found['waited']:.2f} s for each copy; "
            f"updates took {found['step']:.2f} s (median) without a save under way, and while one was written "
            f"({found['written']:.1f} s) they lost {found['slowed']:.2f} s in all. Each save so cost "
            f"{found['waited'] + found['slowed']:.2f} s. The program reckons with {found['reckoned']:.1f} s, saves "
            f"every {found['interval']:.0f} s, and loses {100 * found['share']:.2f} % of the time to saving; a crash "
            f"loses {found['interval'] / 60:.0f} minutes at most.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Kills, then measures what saving costs; writes after each."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--kills", type=int, default=200, help="0: none")
    made.add_argument("--saves", type=int, default=3, help="that are measured at full size; 0: none")
    add_common(made, repeats=12, data="../shared/ag_news")
    options = made.parse_args()
    book = Book(options.results, "faults", {"data": options.data}, page, None)
    on = {"backend": "cpu", "device": "cpu"}
    if options.kills:
        with tempfile.TemporaryDirectory() as folder:
            book.add("kills", kills(options.kills, Path(folder)), on)
    if options.saves:
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            given = (options.data, options.tokenizer, options.repeats, options.saves, folder)
            with Worker("benchmarks.saving:build", given, True, {"FLAX_AGNEWS_CACHE": folder}) as worker:
                book.add("cost", worker.facts["cost"], worker.facts["on"])
    print(page(book.record))


if __name__ == "__main__":
    main()
