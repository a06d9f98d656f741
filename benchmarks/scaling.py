"""`python -m benchmarks.scaling`: runs a minute on 1, 2, 4 and 8 devices, and what a split training state costs.

The devices are simulated ones of a CPU, one thread each, so that eight of them take turns on few cores: what is
measured is the overhead of spreading, the processor time of the same runs on one device being 1. Each number of
devices has its own process, and the processes take turns; the first turn, which compiles, doesn't count. In a second
part, the gradient step of `full` is compiled with `parallel.fsdp` for 1, 2, 4 and 8 devices, without running it: bytes
that each device sends in a step, and what it holds. About ten minutes on two cores. Writes `results/scaling.{json,md}`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.support.circumstances import RESULTS
from benchmarks.support.result_files import ResultFiles, made_line
from benchmarks.support.trial import Record

DEVICES = (1, 2, 4, 8)
STRATEGIES, SEEDS = ("full", "lora"), 4
SMALL = {"vocab_size": 2000, "n_positions": 128, "n_embd": 96, "n_layer": 2, "n_head": 4}
TEXTS = 2000
LARGE = {"vocab_size": 2000, "n_positions": 128, "n_embd": 768, "n_layer": 12, "n_head": 12}  # GPT-2's layers

MOST_OVERHEAD, REACH = 1.25, 1.1


def environment(devices: int) -> dict[str, str]:
    """Variables of a process with simulated devices, one thread each."""
    flags = f"--xla_force_host_platform_device_count={devices} --xla_cpu_multi_thread_eigen=false"
    return {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{flags} intra_op_parallelism_threads=1"}


def in_a_process(kind: str, devices: int, options: argparse.Namespace) -> Record:
    """What `child` finds in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--child", kind, "--devices", str(devices)]
    command += ["--texts", str(options.texts), "--body", json.dumps(SMALL if kind == "runs" else options.large)]
    done = subprocess.run(command, env=environment(devices), stdout=subprocess.PIPE, text=True, check=True)
    found: Record = json.loads(done.stdout.splitlines()[-1])
    return found


def child(kind: str, devices: int, texts: int, body: Mapping[str, int]) -> Record:
    """Measures in this process: `runs` that are spread, or the `split` program of one run."""
    from flax_agnews.config import Config, DataConfig, ModelConfig, ParallelConfig, ReportConfig, TrainConfig
    from flax_agnews.experiment.experiment import Experiment
    from flax_agnews.experiment.progress import silent

    spread = kind == "runs"
    with tempfile.TemporaryDirectory() as output:
        config = Config(
            output=output,
            data=DataConfig(source="builtin", max_length=96, limit_train=texts, limit_test=60),
            model=ModelConfig(from_config=dict(body)),
            train=TrainConfig(epochs=2, batch_size=32, runs=SEEDS if spread else 1, shapes=2),
            parallel=ParallelConfig(spread="runs" if spread else "batch", fsdp=not spread),
            report=ReportConfig(reference="none"),
        )
        experiment = Experiment(config, STRATEGIES if spread else ["full"], silent())
        experiment.prepare()
        if not spread:
            return split_program(experiment)
        wall, processor = time.perf_counter(), time.process_time()
        results = experiment.run()
        seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
        return {"runs": len(results.runs), **seconds}


def split_program(experiment: Any) -> Record:
    """Bytes that each device sends in a step of a split run, by kind of collective; and bytes that it holds."""
    from benchmarks.support.collectives import moved
    from benchmarks.support.recorded_compiler import RecordedCompiler
    from flax_agnews.training.program import Program

    made, shared = experiment.prepare(), experiment.shared
    [setup] = experiment.setups
    compiler = RecordedCompiler(made.devices)
    Program(setup, made.devices, shared, made.activations.inputs(setup, shared, made.batches), compiler=compiler)
    steps = [step.wait() for step in compiler.of("gradients")]
    memory = max((step.memory_analysis() for step in steps), key=lambda found: found.temp_size_in_bytes)
    return {
        "weights": 4 * setup.trainable_parameters,
        "sent": max((moved(step.as_text()) for step in steps), key=lambda found: sum(found.values())),
        "arguments": memory.argument_size_in_bytes,
        "temporaries": memory.temp_size_in_bytes,
    }


def page(record: Record) -> str:
    """The page of results in Markdown."""
    entries, settings = record["entries"], record["settings"]
    lines = ["# Many devices", "", *(__doc__ or "").split("\n\n")[1].rsplit(" Writes", 1)[0].splitlines(), ""]
    lines += [made_line(record)]
    if "runs" in entries:
        lines += ["", "## Runs that are spread", "", *_runs(entries["runs"], settings)]
    if "split" in entries:
        lines += ["", "## A training state that is split", "", *_split(entries["split"])]
    return "\n".join(lines) + "\n"


def _runs(found: Mapping[str, Sequence[Record]], settings: Record) -> list[str]:
    body = f"{SMALL['n_layer']} layers, {SMALL['n_embd']} wide"
    what = f"{' and '.join(STRATEGIES)}, {SEEDS} seeds each, two epochs of {settings['texts']} builtin texts"
    lines = [
        f"{what}, a GPT-2 of {body}: median of {settings['repeats']} turns, from the first compilation (programs are "
        "read from the cache) to the results. Target for the processor time of the same runs: at most "
        f"{MOST_OVERHEAD} times that of one device, {REACH} to reach for.",
        "",
        "| devices | runs a minute | seconds | processor seconds | times those of one device |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    first = median(sample["processor"] for sample in next(iter(found.values())))
    for devices, samples in found.items():
        wall, processor = (median(sample[name] for sample in samples) for name in ("wall", "processor"))
        rate = 60 * samples[0]["runs"] / wall
        lines.append(f"| {devices} | {rate:.1f} | {wall:.1f} | {processor:.1f} | {processor / first:.2f} |")
    return lines


def _split(found: Mapping[str, Record]) -> list[str]:
    weights = next(iter(found.values()))["weights"]
    kinds = list(dict.fromkeys(kind for entry in found.values() for kind in entry["sent"]))
    lines = [
        f"`full`, batches of 32 builtin texts, {weights / 1e6:,.0f} MB of float32 weights. MB that each device sends "
        "in the gradient step (by ring algorithms: a gather of all weights is (D - 1) / D of them), and MB of memory "
        "that XLA reserves on each: weights and batch, and temporaries.",
        "",
        f"| devices | {' | '.join(kinds)} | all, times the weights | weights and batch | temporaries |",
        f"| ---: |{' ---: |' * len(kinds)} ---: | ---: | ---: |",
    ]
    for devices, entry in found.items():
        sent = [f"{entry['sent'].get(kind, 0) / 1e6:,.0f}" for kind in kinds]
        held = [f"{entry[name] / 1e6:,.0f}" for name in ("arguments", "temporaries")]
        times = sum(entry["sent"].values()) / weights
        lines.append(f"| {' | '.join([devices, *sent, f'{times:.2f}', *held])} |")
    return lines


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--repeats", type=int, default=3, help="turns that count")
    made.add_argument("--texts", type=int, default=TEXTS)
    made.add_argument("--large", type=json.loads, default=dict(LARGE), help="fields of the split body's config.json")
    made.add_argument("--parts", nargs="+", choices=["runs", "split"], default=["runs", "split"])
    made.add_argument("--results", type=Path, default=RESULTS)
    made.add_argument("--devices", type=int, nargs="+", default=list(DEVICES))
    made.add_argument("--child", choices=["runs", "split"], help=argparse.SUPPRESS)
    made.add_argument("--body", type=json.loads, help=argparse.SUPPRESS)
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, and writes the files after each turn."""
    options = parser().parse_args(arguments)
    if options.child:
        print(json.dumps(child(options.child, options.devices[0], options.texts, options.body)))
        return
    settings = {"texts": options.texts, "repeats": options.repeats, "large": options.large}
    files = ResultFiles(options.results, "scaling", settings, page, None)
    on = {"backend": "cpu", "device": "simulated devices, one thread each"}
    if "runs" in options.parts:
        found: dict[str, list[Record]] = {str(devices): [] for devices in options.devices}
        for turn in range(options.repeats + 1):
            for devices in options.devices:
                sample = in_a_process("runs", devices, options)
                if turn:
                    found[str(devices)].append(sample)
        files.add("runs", found, on)
    if "split" in options.parts:
        files.add("split", {str(n): in_a_process("split", n, options) for n in options.devices}, on)
    print(page(files.record))


if __name__ == "__main__":
    main()
