"""Makes Markdown from the code and from benchmarks/results, for the directive `generated` in pages."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from diagram import picture, short

from flax_agnews import REGISTRY, Config, Description, describe
from flax_agnews.models.gpt2 import GPT2Config
from flax_agnews.settings.documentation import Documented, documented, introduction
from flax_agnews.settings.ranges import range_words
from flax_agnews.settings.synonyms import HINTS

_RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
_SMALL = GPT2Config()  # the published GPT-2, 124M

REFERENCE = """All public names of `import flax_agnews as fa`. Everything else is private and may change. Errors in
arguments, settings and data are raised as `UserError`, with a one-line message."""


@cache
def _described(name: str) -> Description:
    return describe(name, "gpt2")


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A Markdown table; the columns of `right` (from 0) are aligned to the right."""
    marks = ["---:" if column in right else "---" for column in range(len(header))]
    lines = [header, marks, *rows]
    return "\n".join("| " + " | ".join(cell.replace("\n", " ") for cell in line) + " |" for line in lines)


def _rates(described: Description) -> str:
    rates = [short(rate) for rate in described.rates]
    return ", ".join(rates) if len(rates) < 3 else f"{rates[0]} to {rates[-1]}"


def _paper(url: str) -> str:
    return f"[{url.removeprefix('https://').replace('arxiv.org/abs/', 'arXiv:')}]({url})"


def strategies() -> str:
    """A table with a row for each strategy."""
    rows = []
    for entry in REGISTRY:
        described = _described(entry.name)
        link = f"{{doc}}`{entry.name} </strategies/{entry.name}>`"
        rows.append([link, entry.summary, f"{described.trained:,}", _rates(described), _paper(entry.paper)])
    head = ("strategy", "what trains", "parameters", "default rates", "paper")
    return table(head, rows, right=(2,))


def strategy(name: str) -> str:
    """A strategy's picture and facts."""
    entry, described = REGISTRY[name], _described(name)
    built = entry.build(entry.settings(), _SMALL)
    share = 100 * described.trained / described.total
    rows = [
        [
            "Parameters that train",
            f"{described.trained:,} of {described.total:,} ({share:.3g} %), GPT-2 124M with 4 classes",
        ],
        ["Default learning rates", f"{_rates(described)} (AdamW)"],
        *([["Later epochs", _stages(described)]] if built.stages else []),
        ["Paper", _paper(entry.paper)],
        ["Exports as PEFT adapter", f"`{built.peft.fields['peft_type']}`" if built.peft else "no"],
        ["Measured", _measured(name)],
        ["Command", f"`flax-agnews train --strategy {name}`"],
        ["Python", f'`fa.fit("{name}", ...)` or, with settings, `fa.fit(fa.{name}(...), ...)`'],
    ]
    facts = table(("What trains", entry.summary), rows)
    return f"{picture(described, _SMALL.n_layer)}\n\n{facts}\n"


def _stages(described: Description) -> str:
    """`from epoch 2: 28,353,024 more parameters at 3.85e-4; ...`."""
    groups: dict[int, list[Any]] = {}
    for row in described.rows:
        if row.rate is not None:
            groups.setdefault(row.epoch, []).append(row)
    parts = []
    for epoch, rows in sorted(groups.items()):
        rates = ", ".join(sorted({short(row.rate) for row in rows}))
        parts.append(f"from epoch {epoch + 1}: {sum(row.numbers for row in rows):,} at {rates}")
    return "; ".join(parts)


def _measured(name: str) -> str:
    """A strategy's row of the family's measurement."""
    found = _read("family")
    own = next((run for run in found["runs"] if run["strategy"] == name), None)
    if own is None:
        return "not yet"
    body = f"a GPT-2 of {found['model']['layers']} layers on {found['data']['train']:,} AG News texts"
    rate = "the default rates" if own["rate_factor"] == 1 else f"{own['rate_factor']:.3g} times the default rates"
    what = f"accuracy {own['test_accuracy']:.3f}, {body}, at {rate}"
    return f"{what} ({_page('family', 'family')}, {_made(found)})"


def strategy_settings(name: str) -> str:
    """The settings of a strategy."""
    return "\n\n".join(_setting(name, setting) for setting in documented(REGISTRY[name].settings))


def settings_page() -> str:
    """The page of all settings: each section of `Config`, and a table with links to the strategies' settings."""
    default = Config()
    lines = ["# Every setting", "", _SETTINGS, ""]
    for field in fields(Config):
        section = getattr(default, field.name)
        if is_dataclass(section):
            kind = type(section)
            lines += [f"## {field.name}", "", introduction(kind), ""]
            lines += [f"{_setting(field.name, setting)}\n" for setting in documented(kind)]
    lines += ["## Strategies", "", "Each has its section; its page says what they mean.", ""]
    rows = [
        [f"{{confval}}`{entry.name}.{setting.name}`", f"`{setting.default}`", f"{{doc}}`/strategies/{entry.name}`"]
        for entry in REGISTRY
        for setting in documented(entry.settings)
    ]
    return "\n".join([*lines, table(("setting", "default", "strategy"), rows), ""])


_SETTINGS = """Each setting is a flag (`--train.epochs 3`), an entry in a YAML file (`train: {epochs: 3}`), and a
field of the section's class in Python (`fa.TrainConfig(epochs=3)`; `fit` takes `epochs=3`). In Python, `null` is
`None`. `--print_config` prints the values of all settings that a command would use.

Other flags: `--strategy` (names separated by commas; `all` is full, prompt and partial; `every` is all strategies),
`--output` (the output folder), `--overwrite` (start over in a folder that is in use), `--dry_run` (print what would
run) and `--config`."""


def _setting(section: str, setting: Documented) -> str:
    name, limits = f"{section}.{setting.name}", range_words(f"{section}.{setting.name}")
    kind = f"`{setting.values}`" + (f", {limits}" if limits else "")
    text = re.sub(r"(?<=[^`\w/])([A-Z0-9_]{3,}_[A-Z0-9_]+)", r"`\1`", setting.text[:1].upper() + setting.text[1:])
    return f":::{{confval}} {name}\n:type: {kind}\n:default: `{setting.default}`\n\n{text}\n:::"


def from_trainer() -> str:
    """A table of settings of transformers' TrainingArguments and of PEFT, and their equivalents."""
    groups: dict[str, list[str]] = {}
    for name, sentence in HINTS.items():
        groups.setdefault(sentence, []).append(f"`{name}`")
    rows = [[", ".join(names), re.sub(r"\{([\w.]+)\}", r"`\1`", sentence)] for sentence, names in groups.items()]
    return table(("setting of transformers or PEFT", "in flax_agnews"), rows)


@cache
def _read(name: str) -> Any:
    return json.loads((_RESULTS / f"{name}.json").read_text("utf-8"))


def _made(found: Any) -> str:
    made = found["made"]
    return f"{made['date']}, {made['processor']}, commit {made['commit']}"


def _page(name: str, text: str) -> str:
    """A link to a page of measurements."""
    return f"{{doc}}`{text} </reference/generated/results/{name}>`"


def _source(name: str) -> str:
    """The line below a table of measurements."""
    return f"Measured {_made(_read(name))}; {_page(name, 'all figures')}."


def savings() -> str:
    """A table of the gain of each optimization."""
    found = _read("savings")
    rows = []
    for name, entry in found["entries"].items():
        measured = f"`{entry['strategy']}`, {entry['dtype']}, {entry['model']}, batches of {entry['batch_size']}"
        rows.append([f"`{name}`", entry["instead"], measured, f"{entry['gain']:.2f}"])
    head = ("optimization", "without it", "measured in", "times as fast")
    return f"{table(head, rows, right=(3,))}\n\n{_source('savings')}\n"


def versus() -> str:
    """A table of training speeds of flax_agnews, PyTorch and PEFT."""
    found = _read("vs_pytorch")
    ways = ["pad 256", "pad 128", "dynamic", "length-grouped", "ours"]
    rows = []
    for name, suite in found["suites"].items():
        strategy, dtype = name.split("-")
        speeds = [_speed(suite["contenders"].get(way)) for way in ways]
        rows.append([f"`{strategy}`, {dtype}", *speeds])
    head = ["tokens per second", *(way.replace("ours", "flax_agnews") for way in ways)]
    numbers = table(head, rows, right=range(1, len(head)))
    return f"{numbers}\n\n{_source('vs_pytorch')}\n"


def _speed(contender: Any) -> str:
    if contender is None:
        return "–"
    speeds = sorted(tokens / seconds for seconds, tokens, _ in contender["samples"])
    middle = len(speeds) // 2
    median = speeds[middle] if len(speeds) % 2 else (speeds[middle - 1] + speeds[middle]) / 2
    return f"{median:,.0f}"


def family() -> str:
    """A table of the accuracies of all strategies, best first."""
    found = _read("family")
    runs = sorted(found["runs"], key=lambda run: -run["test_accuracy"])
    rows = [
        [
            f"{{doc}}`{run['strategy']} </strategies/{run['strategy']}>`",
            f"{run['test_accuracy']:.3f}",
            f"{run['trainable_parameters']:,}",
        ]
        for run in runs
    ]
    numbers = table(("strategy", "test accuracy", "parameters that train"), rows, right=(1, 2))
    return f"{numbers}\n\n{_source('family')}\n"


DIRECTIVES: dict[str, Callable[..., str]] = {
    "strategies": strategies,
    "strategy": strategy,
    "settings": strategy_settings,
    "from_trainer": from_trainer,
    "savings": savings,
    "versus": versus,
    "family": family,
}
"""NAME in `{generated} NAME` -> the function that makes its Markdown."""
