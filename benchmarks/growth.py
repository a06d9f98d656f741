"""`python -m benchmarks.growth`: time per real token, and memory, as data, texts and layers grow.

Full fine-tuning, 32 texts per update: (a) 676, 6,764 and 67,637 training rows; (b) the same tokens cut into texts of
25, 50, 100 and 200 tokens on average; (c) 2, 4, 8 and 12 layers. Each trial has its own process; those of a panel take
turns. By default on a GPT-2 of 4 layers, 256 wide (about six minutes on two cores); at full size:
`--model 124M --panels data --repeats 10`. Writes `results/growth.{json,md,png}`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median
from typing import Any

from matplotlib.axes import Axes

from benchmarks.support.bar_charts import BLUE, GREY, figure, plain, png
from benchmarks.support.result_files import ResultFiles, add_common, gibibytes, made_line
from benchmarks.support.trial import MODELS, Record, Result, Trial, measure
from flax_agnews.data.shapes import MOST

PANELS: Mapping[str, tuple[str, str]] = {
    "data": ("More data", "training rows"),
    "length": ("Longer texts", "tokens a text, on average"),
    "layers": ("More layers", "layers"),
}
"""Name of a panel -> its title, and the label of the quantity that grows."""


def trials(panel: str, options: argparse.Namespace) -> dict[int, Trial]:
    """A panel's trials by the size that grows; the panel `data` uses the most shapes that the library chooses."""
    size = options.batch_size
    default = Trial(model=options.model, batch_size=size, data=options.data, tokenizer=options.tokenizer)
    if panel == "data":
        return {rows: replace(default, rows=rows, shapes=MOST) for rows in options.rows}
    if panel == "length":
        return {mean: replace(default, mean_length=mean) for mean in options.lengths}
    return {n: replace(default, model=json.dumps({**default.body, "n_layer": n})) for n in options.layers}


def entry(grown: int, trial: Trial, result: Result) -> dict[str, Any]:
    """A measurement's entry in the JSON file; times in microseconds per real token."""
    times = [1e6 * sample.seconds / sample.tokens for sample in result.samples]
    spread = {"median": median(times), "least": min(times), "most": max(times)}
    return {"grown": grown, "trial": asdict(trial), "microseconds": spread, **result.record}


def page(record: Record) -> str:
    """The page of results in Markdown."""
    settings = record["settings"]
    lines = [
        "# Growth",
        "",
        f"Full fine-tuning of a GPT-2 ({model_text(settings['model'])}), {settings['batch_size']} real AG News texts",
        f"an update, float32, dropout 0: median of {settings['repeats']} complete steps, each on its own batch, in",
        "processes that take turns. Time per real token: padding costs time, but doesn't count. Memory: the process's",
        f"(or device's) peak in a step of the largest shape. At most {MOST} compiled shapes for more",
        f"data, else {Trial.shapes}. Longer texts: the same tokens in a row, cut anew.",
        "",
        made_line(record),
    ]
    for panel, points in record["entries"].items():
        lines += ["", f"## {PANELS[panel][0]}", "", *_table(panel, points)]
    return "\n".join(lines) + "\n"


def model_text(model: str) -> str:
    """A model's layers and width, in words."""
    body = Trial(model=model).body
    return f"{body.get('n_layer', 12)} layers, {body.get('n_embd', 768)} wide"


def _table(panel: str, points: Sequence[Record]) -> list[str]:
    extra = ["reading, s", "tokenizing, s", "planning 3 runs x 5 epochs, s"] if panel == "data" else []
    header = [PANELS[panel][1], "microseconds a real token [least - most]", "times the first", "memory, GiB", "padding"]
    lines = [f"| {' | '.join([*header, *extra])} |", f"|{'---:|' * len([*header, *extra])}"]
    for point in points:
        spread, first = point["microseconds"], points[0]["microseconds"]["median"]
        cells = [f"{point['grown']:,}", f"{spread['median']:.1f} [{spread['least']:.1f} - {spread['most']:.1f}]"]
        cells += [f"{spread['median'] / first:.2f}", gibibytes(point["memory_bytes"]), f"{100 * point['waste']:.0f} %"]
        cells += [f"{seconds:.2f}" for seconds in point["preparation"].values()]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def picture(record: Record) -> bytes:
    """The picture of results as PNG, a panel for each quantity that grows."""
    entries, made = record["entries"], record["made"]
    title = f"Full fine-tuning of GPT-2 ({model_text(record['settings']['model'])}) as things grow\n{made['processor']}"
    drawn = figure(4.5 * len(entries), 4.2, title)
    panels = drawn.subplots(1, len(entries), squeeze=False)
    for axes, (panel, points) in zip(panels.flat, entries.items(), strict=True):
        _draw(axes, *PANELS[panel], points)
    return png(drawn)


def _draw(axes: Axes, title: str, label: str, points: Sequence[Record]) -> None:
    """Draws a panel: time per token on the left axis, memory on the right."""
    grown, spreads = [point["grown"] for point in points], [point["microseconds"] for point in points]
    middle = [spread["median"] for spread in spreads]
    reach = [[s["median"] - s["least"] for s in spreads], [s["most"] - s["median"] for s in spreads]]
    axes.errorbar(grown, middle, yerr=reach, color=BLUE, marker="o", capsize=3)
    axes.set_xscale("log")
    axes.set_xticks(grown, [f"{n:,}" for n in grown])
    axes.minorticks_off()
    axes.set_ylim(0, 1.1 * max(spread["most"] for spread in spreads))
    axes.set_ylabel("microseconds a real token (line: least, most)", fontsize=9, color=BLUE)
    axes.set_title(title, fontsize=11, loc="left")
    plain(axes, label)
    memory = [point["memory_bytes"] for point in points]
    if None not in memory:
        right = axes.twinx()
        right.plot(grown, [size / 2**30 for size in memory], color=GREY, marker="s", linestyle="--", zorder=0)
        right.set_ylim(0, 1.3 * max(memory) / 2**30)
        right.set_ylabel("peak memory, GiB", fontsize=9, color="#777777")
        right.tick_params(labelsize=9)
        right.spines[["top"]].set_visible(False)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--panels", nargs="+", choices=PANELS, default=list(PANELS))
    made.add_argument("--model", default="mini", help=f"one of {', '.join(MODELS)}; or a config.json's fields")
    made.add_argument("--batch_size", type=int, default=Trial.batch_size)
    made.add_argument("--rows", nargs="+", type=int, default=[676, 6_764, 67_637])
    made.add_argument("--lengths", nargs="+", type=int, default=[25, 50, 100, 200])
    made.add_argument("--layers", nargs="+", type=int, default=[2, 4, 8, 12])
    add_common(made, repeats=20, data="../shared/ag_news_large")
    return made


def main() -> None:
    """Measures the panels, and writes the files after each."""
    options = parser().parse_args()
    settings = {name: getattr(options, name) for name in ("model", "batch_size", "repeats", "data", "device")}
    files = ResultFiles(options.results, "growth", settings, page, picture)
    for panel in options.panels:
        chosen = trials(panel, options)
        results = measure(list(chosen.values()), options.repeats, options.device == "cpu")
        points = [entry(*item, result) for item, result in zip(chosen.items(), results, strict=True)]
        files.add(panel, points, results[0].facts["on"])
    print(page(files.record))


if __name__ == "__main__":
    main()
