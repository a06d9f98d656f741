"""`python -m benchmarks.vs_pytorch`: training speed beside PyTorch, transformers and PEFT, in one interleaved run.

A suite is a strategy in a precision; its contenders run in two processes (PyTorch's, JAX's) and take turns. Writes
`results/vs_pytorch.{json,md,png}` after every suite; earlier suites of the same commit and settings stay in the files.
On a processor without bfloat16 products only float32 is measured, unless `--suites` names suites.
"""

import argparse
import json
import math
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.support.circumstances import RESULTS, circumstances
from benchmarks.support.vs_pytorch_plot import picture
from benchmarks.support.vs_pytorch_tables import page
from benchmarks.support.workers import OPTIONAL, Sample, Samples, Settings, Suite, Worker, interleave
from flax_agnews.system.files import write_atomic
from flax_agnews.system.machine import cpuinfo, lacks_bfloat16

STRATEGIES, PRECISIONS = ("full", "prompt", "partial"), ("float32", "bfloat16")
SUITES = [Suite(strategy, precision) for precision in PRECISIONS for strategy in STRATEGIES]


def run_suite(
    settings: Settings, suite: Suite, cache: str | None = None, until: float = math.inf
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Measures a suite in two new processes; returns its record, and facts about the machine.

    Args:
        settings, suite: what is measured.
        cache: the library's folder of caches; by default an empty one.
        until: `time.monotonic` after which no repeat begins, but for the first.
    """

    def tell(name: str, repeat: int, sample: Sample) -> None:
        speed = f"{sample.tokens / sample.seconds:.1f} real tokens/s ({sample.seconds:.2f} s)"
        print(f"{suite}  {'warm-up' if repeat < 0 else f'repeat {repeat + 1}'}  {name}: {speed}", flush=True)

    def leave_out(name: str, reason: str) -> None:
        print(f"{suite}  {name} is not measured: {reason}", flush=True)
        missing[name] = reason

    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="vs_pytorch-") as folder:
        how = (settings.allocator, environment(settings, cache or folder))
        with Worker("benchmarks.support.training_steps:build_suite", (settings, suite, folder), *how) as ours:
            given = (settings, suite, ours.facts["rows"], ours.facts["on"]["backend"])
            with Worker("benchmarks.support.pytorch_trainer:build", given, *how) as theirs:
                samples = interleave([theirs, ours], settings.repeats, settings.seed, tell, leave_out, until)
                record = suite_record(samples, ours.facts, theirs.facts)
                record |= {"not_measured": missing} if missing else {}
                return record, {**ours.facts["on"], **theirs.facts["on"]}


def environment(settings: Settings, folder: str) -> dict[str, str]:
    """Environment variables of both processes: an empty cache folder, and GPU memory that both may use."""
    chosen = {"FLAX_AGNEWS_CACHE": folder, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    return chosen | ({"JAX_PLATFORMS": "cpu"} if settings.device == "cpu" else {})


def suite_record(samples: Samples, ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    """A suite's entry in the JSON file."""
    return {
        "mean_tokens": ours["mean_tokens"],
        "trained_parameters": theirs["trained_parameters"],
        "ours": ours["ours"],
        "contenders": {
            name: {"mean_tokens": theirs["mean_tokens"].get(name, ours["mean_tokens"]), "samples": every}
            for name, every in samples.items()
        },
    }


def left_out(suites: Sequence[Suite], backend: str, text: str) -> list[Suite]:
    """The suites to leave out: those in bfloat16, on a processor that computes it more slowly than float32.

    Args:
        suites: suites that would be measured.
        backend: JAX's name of the backend.
        text: the processor's description, as `cpuinfo` returns it.
    """
    slow = backend == "cpu" and lacks_bfloat16(text)
    return [suite for suite in suites if slow and suite.precision == "bfloat16"]


def made_now() -> dict[str, Any]:
    """The commit, date, machine and versions of this measurement."""
    versions = {name: version(name) for name in ("torch", "transformers", "peft")}
    return {**circumstances(), **versions, "load_before": os.getloadavg()[0]}


def kept(file: Path, made: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The suites in the file, if they were measured with the same commit and settings; else empty."""
    if not file.exists():
        return {}
    before = json.loads(file.read_text("utf-8"))
    same = before["made"]["commit"] == made["commit"] and before["settings"] == settings
    return before["suites"] if same else {}


def write(folder: Path, record: Mapping[str, Any]) -> None:
    """Writes the JSON file, the page and the picture."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "vs_pytorch.json", (json.dumps(record, indent=1) + "\n").encode())
    write_atomic(folder / "vs_pytorch.md", page(record).encode())
    write_atomic(folder / "vs_pytorch.png", picture(record))


def prepare_model(model: str, folder: Path) -> str:
    """Returns a directory with weights: `model`, or for fields of a GPT2Config `folder`, with random weights."""
    if Path(model).is_dir():
        return model
    with Worker("benchmarks.support.pytorch_trainer:save_random", (str(folder), json.loads(model), 0), False, {}):
        return str(folder)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    made.add_argument("--suites", help=f"some of {','.join(map(str, SUITES))}; by default all")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--batch_size", type=int, default=32)
    made.add_argument("--model", default="{}", help="directory, or fields of a GPT2Config ({}: 124M); random weights")
    made.add_argument("--tokenizer", default="../shared/gpt2_tokenizer")
    made.add_argument("--data", default="../shared/ag_news")
    made.add_argument("--shapes", type=int, default=Settings.shapes, help="most compiled shapes of ours")
    made.add_argument("--device", choices=("auto", "cpu"), default="auto", help="auto: a GPU where JAX finds one")
    made.add_argument("--micro_batch_tokens", type=int, help="most tokens of ours computed at once")
    made.add_argument("--cache", help="folder of caches of ours, for compiling sooner; by default an empty one")
    made.add_argument("--without", choices=("allocator", *OPTIONAL), action="append", default=[])
    made.add_argument("--also", choices=OPTIONAL, action="append", default=[], help="measured on a CPU too")
    made.add_argument("--limit", type=float, help="seconds after which no further repeat begins")
    limit = "seconds after which torch.compile is given up"
    made.add_argument("--compile_limit", type=float, default=Settings.compile_limit, help=limit)
    made.add_argument("--results", type=Path, default=RESULTS, help="folder of what is written")
    return made


def main() -> None:
    """Measures the suites, and writes the files after each."""
    options = parser().parse_args()
    suites = SUITES if options.suites is None else [Suite.of(name) for name in options.suites.split(",")]
    if unknown := [str(suite) for suite in suites if suite not in SUITES]:
        raise SystemExit(f"--suites {','.join(unknown)}: must be of {','.join(map(str, SUITES))}")
    os.environ.pop("JAX_COMPILATION_CACHE_DIR", None)  # compiling is measured with an empty cache
    until = time.monotonic() + (options.limit or math.inf)
    made, file = made_now(), options.results / "vs_pytorch.json"
    with tempfile.TemporaryDirectory(prefix="vs_pytorch-") as folder:
        settings = Settings(
            prepare_model(options.model, Path(folder)),
            options.tokenizer,
            options.data,
            batch_size=options.batch_size,
            repeats=options.repeats,
            allocator="allocator" not in options.without,
            device=options.device,
            shapes=options.shapes,
            micro_batch_tokens=options.micro_batch_tokens,
            also=",".join(options.also),
            without=",".join(name for name in options.without if name in OPTIONAL),
            compile_limit=options.compile_limit,
        )
        shown = {**asdict(settings), "model": options.model}
        done, without = kept(file, made, shown), list[Suite]()
        for suite in suites:
            if suite in without:
                continue
            done[str(suite)], on = run_suite(settings, suite, options.cache, until)
            if options.suites is None:
                without = left_out(SUITES, on["backend"], cpuinfo())
            ordered = {str(suite): done[str(suite)] for suite in SUITES if str(suite) in done}
            record = {"made": {**made, **on}, "settings": shown, "suites": ordered, "left_out": list(map(str, without))}
            write(options.results, record)
    print(page(record))


if __name__ == "__main__":
    main()
