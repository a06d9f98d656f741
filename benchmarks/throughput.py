"""`python -m benchmarks.throughput`: training speed, utilisation, memory and compile time of the library.

By default GPT-2 124M, 32 texts per update, the strategies `full`, `prompt` and `partial` in float32 and bfloat16 (about
six minutes on two cores). All configurations: `--models 124M mini --batch_sizes 8 32 128`; on a GPU `--batch_sizes 128
512 --dropouts 0 0.1 --micro_batch_tokens 65536`. Each has its own process, one after the other. Writes
`results/throughput.{json,md,png}`; earlier results of other configurations stay in the files if commit and settings are
the same.

`--without NAME` (or `each`: about half an hour) measures the gain of a saving instead: `results/savings.{json,md,png}`.
"""

import argparse
from dataclasses import asdict

from benchmarks import savings
from benchmarks.support.bar_charts import BAR, COLORS, Bar, draw_bars, figure, png
from benchmarks.support.result_files import ResultFiles, add_common, gibibytes, made_line
from benchmarks.support.trial import Record, Trial, measure
from benchmarks.support.trial_options import add_trials, trials


def peaks(record: Record) -> dict[str, float]:
    """Dtype -> the highest rate of a matrix product over all processes, in FLOP/s."""
    found: dict[str, float] = {}
    for entry in record["entries"].values():
        dtype = entry["trial"]["dtype"]
        found[dtype] = max(found.get(dtype, 0.0), entry["peak_flops_per_second"])
    return found


def utilisation(record: Record, entry: Record) -> float:
    """Model FLOP utilisation: FLOP/s that the step needs, as a share of the best matrix product's rate."""
    return entry["flops_per_second"] / peaks(record)[entry["trial"]["dtype"]]


def page(record: Record) -> str:
    """The page of results in Markdown."""
    settings = record["settings"]
    rates = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {dtype}" for dtype, rate in peaks(record).items())
    lines = [
        "# Throughput",
        "",
        "Complete training steps (batch put together, forward, backward, AdamW, loss read back):",
        f"{settings['repeats']} a configuration, each on its own batch (on a GPU 8 steps each) of real AG News texts",
        f"of at most 256 tokens; random weights; medians. At most {settings['shapes']} compiled shapes (the library",
        "chooses up to 6, where hours follow). Partial has its cache of frozen activations, warm. Only real tokens",
        "count: no padding, no prompt.",
        "",
        "Utilisation: the FLOP of the matrix products that the step needs for these tokens",
        "(`flax_agnews/training/flops.py`; what is skipped is not counted), a second, in units of the best product",
        f"measured in the same run: {rates}.",
        "Memory: the process's (or device's) peak in a step of the largest shape. Compile: the training step's shapes.",
        "",
        made_line(record),
        "",
        "| model | strategy | texts an update | dtype | dropout | attention | texts/s | real tokens/s [least - most] "
        "| ms a step | utilisation | memory, GiB | compile, s | cache, s | padding |",
        "|---|---|---:|---|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for entry in record["entries"].values():
        trial = entry["trial"]
        memory = gibibytes(entry["memory_bytes"])
        tokens = f"{entry['tokens_per_second']:.0f} [{entry['least']:.0f} - {entry['most']:.0f}]"
        cells = [Trial(**trial).model_text, trial["strategy"], trial["batch_size"], trial["dtype"]]
        cells += [f"{trial.get('dropout', 0):g}", entry.get("attention", "blocks")]
        step = f"{1e3 * trial['batch_size'] * trial['seeds'] / entry['texts_per_second']:.1f}"
        cells += [f"{entry['texts_per_second']:.1f}", tokens, step, f"{100 * utilisation(record, entry):.0f} %", memory]
        cache = f"{entry['cache_seconds']:.1f}" if entry["cache_seconds"] else "-"
        cells += [f"{entry['compile_seconds']:.1f}", cache, f"{100 * entry['waste']:.0f} %"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def picture(record: Record) -> bytes:
    """The picture of results as PNG: real tokens per second, a panel for each model."""
    models = list(dict.fromkeys(entry["trial"]["model"] for entry in record["entries"].values()))
    entries = [[e for e in record["entries"].values() if e["trial"]["model"] == model] for model in models]
    made, counts = record["made"], [len(panel) for panel in entries]
    title = f"Training speed on AG News: real tokens per second\n{made['processor']}, JAX {made['jax']}"
    drawn = figure(9, 1.2 + sum(BAR * n + 0.8 for n in counts), title)
    panels = drawn.subplots(len(models), 1, squeeze=False, gridspec_kw={"height_ratios": [n + 2 for n in counts]})
    for axes, model, panel in zip(panels.flat, models, entries, strict=True):
        draw_bars(axes, [_bar(record, entry) for entry in panel], "real tokens per second (median; line: least, most)")
        axes.set_title(
            f"GPT-2 {Trial(model=model).model_text}; in brackets: model FLOP utilisation", fontsize=11, loc="left"
        )
    return png(drawn)


def _bar(record: Record, entry: Record) -> Bar:
    trial, value = entry["trial"], entry["tokens_per_second"]
    name = f"{trial['strategy']}, {trial['batch_size']} texts, {trial['dtype']}"
    text = f"{value:.0f} ({100 * utilisation(record, entry):.0f} %)"
    return Bar(name, value, entry["least"], entry["most"], text, COLORS[trial["strategy"]])


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_trials(made, Trial())
    gains = f"what this saving gains, on the first model and batch size: {', '.join(savings.NAMES)}; or each of them"
    switches = (*savings.NAMES, "each")
    made.add_argument("--without", action="append", choices=switches, default=[], metavar="NAME", help=gains)
    add_common(made, repeats=5, data=Trial.data)
    return made


def main() -> None:
    """Measures the trials, or the savings, and writes the files after each."""
    options = parser().parse_args()
    settings = {name: getattr(options, name) for name in ("repeats", "shapes", "data", "device")}
    settings |= {"compiled": "with what earlier commands had compiled"} if options.cache else {}
    cpu = options.device == "cpu"
    if options.without:
        files = ResultFiles(options.results, "savings", settings, savings.page, savings.picture)
        names = savings.NAMES if "each" in options.without else options.without
        savings.run(names, trials(options)[0], options.repeats, cpu, files.add)
        print(savings.page(files.record))
        return
    files = ResultFiles(options.results, "throughput", settings, page, picture)
    for trial in trials(options):
        (result,) = measure([trial], options.repeats, cpu, options.cache)
        files.add(trial.label, {"trial": asdict(trial), **result.record}, result.facts["on"])
    print(page(files.record))


if __name__ == "__main__":
    main()
