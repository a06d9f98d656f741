"""`python -m benchmarks.faults`: a comparison that is killed again and again ends with the bytes of an undisturbed one.

Also measures what saving checkpoints costs while a full-size model trains. Writes `results/kills.{json,md}` after every
experiment, so that the next call on the same commit continues the count, and `results/faults.{json,md}`.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.circumstances import RESULTS
from benchmarks.support.result_files import ResultFiles, add_common, made_line
from benchmarks.support.trial import SEED, Record
from benchmarks.support.workers import Worker

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
    "checkpoint.every_steps": 100,  # so that many kills fall into a save
    "tracking.wandb": "disabled",
}
PHASES = ("starting, compiling or caching", "language modelling", "training or evaluating", "in the middle of a save")


def start(output: Path, cache: Path) -> "subprocess.Popen[bytes]":
    """Starts the comparison in a separate process, with its own cache folder."""
    flags = [part for name, value in FLAGS.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "flax_agnews.main", *flags, "--output", str(output)]
    environment = os.environ | {"FLAX_AGNEWS_CACHE": str(cache), "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(process: "subprocess.Popen[bytes]", killed: bool = False) -> str:
    """Waits for a process and returns its output; exits where it failed, but not for a SIGKILL if `killed`."""
    said = process.communicate()[0].decode()
    if process.returncode and not (killed and process.returncode == -signal.SIGKILL):
        raise SystemExit(f"the command ended with {process.returncode}:\n{said}")
    return said


def phase(output: Path, process: int, started: float, said: str) -> str:
    """The phase of `PHASES` in which a process was killed.

    Args:
        output: output folder of the process.
        process: process id, which is part of the names of its temporary files.
        started: start of the process, in seconds since 1970.
        said: everything that the process printed.
    """
    if any(f".{process}." in path.name for kind in ("draft", "gone") for path in output.rglob(f".*.{kind}")):
        return PHASES[3]
    if "\nplan " not in said:
        return PHASES[0]
    compiled = re.findall(r"^compiling (\w+) \.\.\.", said, re.M)
    if not compiled:
        adapted = re.search(r"^pretrain(: took| +done)", said, re.M)
        return PHASES[0] if adapted else PHASES[1]
    return PHASES[2] if computes(output, compiled[-1], started) else PHASES[0]


def computes(output: Path, strategy: str, started: float) -> bool:
    """Whether a strategy's runs have logged an update since `started`, in seconds since 1970."""
    return any(path.stat().st_mtime >= started for path in output.glob(f"{strategy}/seed-*/metrics.jsonl"))


def end(output: Path) -> dict[str, Any]:
    """Reads the files that must be equal with and without kills: results without costs, metrics, weights."""
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


class Kills:
    """Runs experiments that are killed at random moments and restarted, until the number of kills is reached.

    Args:
        most: number of kills, with those of earlier calls.
        before: `found` of earlier calls.
        folder: folder of all files; each experiment has its own output and cache in it.
        keep: called with `found` after each experiment.

    Attributes:
        found: number of kills by phase, of restarts that resumed from a checkpoint, of damaged checkpoints, of
            experiments, and of those whose files equal the undisturbed experiment's.
    """

    def __init__(self, most: int, before: dict[str, Any] | None, folder: Path, keep: Callable[[Any], None]) -> None:
        self.found = before or {"kills": {}, "went_on": 0, "damaged": 0, "experiments": 0, "equal": 0}
        self._folder, self._keep, self._lock = folder, keep, threading.Lock()
        self._left, self._begun = most - sum(self.found["kills"].values()), self.found["experiments"]
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, at_once: int) -> None:
        """Runs an experiment without kills, then experiments with kills, `at_once` of them in parallel."""
        if self._left <= 0:
            return
        began = time.monotonic()
        finish(start(self._folder / "undisturbed", self._folder / "own-cache"))
        self._longest = (time.monotonic() - began) / 2  # most seconds until a kill
        self._reference = end(self._folder / "undisturbed")
        with ThreadPoolExecutor(at_once) as pool:
            try:
                list(pool.map(lambda _: self._work(), range(at_once)))
            finally:
                self._stop()

    def _stop(self) -> None:
        """Kills the running processes; their experiments don't count."""
        self._left, self._stopped = 0, True
        for process in list(self._processes):
            process.kill()

    def _work(self) -> None:
        """Runs experiments, one after the other, and adds up their counts until no kills are left."""
        while self._left > 0:
            with self._lock:
                self._begun += 1
                number = self._begun
            try:
                found = self._experiment(number)
            except BaseException:
                self._stop()
                raise
            with self._lock:
                kills = Counter(self.found["kills"]) + Counter(found.pop("kills"))
                self.found = {name: self.found[name] + value for name, value in found.items()} | {"kills": dict(kills)}
                self._keep(self.found)

    def _may_kill(self) -> bool:
        """Takes one of the kills that are left; False where there is none."""
        with self._lock:
            self._left -= 1
            return self._left >= 0

    def _experiment(self, number: int) -> dict[str, Any]:
        """Runs an experiment that is killed repeatedly, and restarted until it ends; returns its counts."""
        output, cache = self._folder / f"out-{number}", self._folder / f"cache-{number}"
        rng, counts, went_on, damaged = np.random.default_rng([SEED, number]), Counter[str](), 0, 0
        while True:
            started = time.time()
            process = start(output, cache)
            self._processes.add(process)
            sooner = 1
            if sum(counts.values()) % 2:  # half of the kills come soon after training has begun
                sooner = 4
                while process.poll() is None and not computes(output, "*", started):
                    time.sleep(0.01)
            try:
                process.wait(rng.uniform(0, self._longest / sooner))
            except subprocess.TimeoutExpired:
                if self._may_kill():
                    process.kill()
            said = finish(process, killed=True)
            self._processes.discard(process)
            if self._stopped:
                raise SystemExit("stopped")
            went_on, damaged = went_on + said.count("goes on at"), damaged + said.count("damaged")
            if not process.returncode:
                break
            where = phase(output, process.pid, started, said)
            counts[where] += 1
            print(f"experiment {number}, kill {sum(counts.values())}: {where}", flush=True)
        equal = end(output) == self._reference
        for folder in (output, cache):
            shutil.rmtree(folder)
        return {"kills": counts, "went_on": went_on, "damaged": damaged, "experiments": 1, "equal": int(equal)}


def page(record: Record) -> str:
    """The page of results in Markdown."""
    entries, lines = record["entries"], ["# Faults", "", made_line(record)]
    if found := entries.get("kills"):
        counts = found["kills"]
        lines += [
            "",
            "## Killed again and again",
            "",
            f"SIGKILL at random moments, {sum(counts.values())} times (half of them anywhere in a process's life, half "
            "once it trains), each followed by the same command: a small GPT-2 on generated texts, three strategies "
            "with two seeds, language modelling first, dropout on, frozen layers cached.",
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
    """Runs the experiments with kills, then measures the cost of checkpoints; writes the results after each."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--kills", type=int, default=200, help="in all: those on the same commit count; 0: none")
    made.add_argument("--at_once", type=int, default=1, help="experiments that are killed side by side")
    made.add_argument("--saves", type=int, default=3, help="that are measured at full size; 0: none")
    add_common(made, repeats=12, data="../shared/ag_news")
    options = made.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # lets its processes end too
    if options.kills:
        files, on = ResultFiles(options.results, "kills", {}, page, None), {"backend": "cpu", "device": "cpu"}
        with tempfile.TemporaryDirectory() as folder:
            kills = Kills(
                options.kills, files.entries.get("kills"), Path(folder), lambda found: files.add("kills", found, on)
            )
            kills.run(options.at_once)
        print(f"in {options.results}: kills {sum(files.entries.get('kills', {}).get('kills', {}).values())}")
    if options.saves:
        files = ResultFiles(options.results, "faults", {"data": options.data}, page, None)
        with tempfile.TemporaryDirectory(dir=RESULTS) as folder:
            given = (options.data, options.tokenizer, options.repeats, options.saves, folder)
            with Worker(
                "benchmarks.support.checkpoint_cost:build", given, True, {"FLAX_AGNEWS_CACHE": folder}
            ) as worker:
                files.add("cost", worker.facts["cost"], worker.facts["on"])


if __name__ == "__main__":
    main()
